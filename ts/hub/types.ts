/** What the library sees of a model's files, wherever they are kept. */

import type { Source } from '../backend/contract.js'
import type { SwitchTransformersError } from '../errors.js'
import type { ProgressCallback } from './progress.js'

export interface RepositoryOptions {
  /** Branch, tag or commit. Default `main`. */
  revision?: string
  /** Folder of the cache. Default: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`. */
  cache_dir?: string
  /** Use only what is on this machine, as `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE` demand of every call. */
  local_files_only?: boolean
  /** Access token; `false` sends none. Default: `HF_TOKEN`, else the file that `hf auth login` writes. */
  token?: string | false
  /** Address of the hub. Default: `HF_ENDPOINT`, else `https://huggingface.co`. */
  endpoint?: string
  /** Folder inside the repository that every file name is relative to. */
  subfolder?: string
  /** Download even what the cache holds. */
  force_download?: boolean
  progress_callback?: ProgressCallback
  /** Aborts downloads with an `AbortError`. What has arrived is kept, and the next call goes on from there. */
  signal?: AbortSignal
  /** Used instead of the global `fetch`, for a proxy, say. */
  fetch?: typeof fetch
  /** How long a connection may be silent, in milliseconds. Default: `HF_HUB_DOWNLOAD_TIMEOUT` (seconds), else 30000. */
  timeout_ms?: number
  /** How often in a row a request may fail for a passing reason before it is given up. Default 4. */
  max_retries?: number
  /** Pause before the first retry, doubled with each further one, in milliseconds. Default 300. */
  retry_delay_ms?: number
}

/** The files of one model at one revision. */
export interface Repository {
  /** The name or path that it was opened by. */
  readonly name: string
  /** The commit, for a hub repository whose commit is known. */
  readonly commit?: string
  /** Names of all files, relative to the subfolder, sorted. For a folder: what is on disk. */
  list(): Promise<string[]>
  /** Whether there is such a file, whether or not it is downloaded yet. */
  has(file: string): Promise<boolean>
  /** A small file's bytes; null when it is absent. At most 256 MiB. */
  read(file: string): Promise<Uint8Array | null>
  /** A file to be read in parts, downloaded first where need be; null when it is absent. */
  source(file: string): Promise<Source | null>
  /** Downloads several files at once, so that total progress is known from the start. Absent ones are passed over. */
  prefetch(files: readonly string[]): Promise<void>
  /** Told by whoever loads weights how many per cent are in memory: files that are read meanwhile have come as far. */
  loaded?(percent: number): void
  /** The error to throw where `file` is needed and absent: it says where it was looked for and what is there. */
  absent(file: string): Promise<SwitchTransformersError>
  /** Closes open files. Sources of this repository cannot be read afterwards. */
  close(): void
}

export interface CachedFile {
  name: string
  size: number
}

export interface CachedRevision {
  commit: string
  /** Branches and tags that were at this commit when they were last looked up. */
  refs: string[]
  files: CachedFile[]
}

export interface CachedRepository {
  name: string
  /** Bytes on disk, unfinished downloads included, files shared by revisions counted once. */
  size: number
  revisions: CachedRevision[]
  /** Where it is, on platforms with files. */
  path?: string
}

export type CacheOptions = Pick<RepositoryOptions, 'cache_dir'>

/** A file as the hub lists it. `etag` names its content: SHA-256 for large files, the git blob's SHA-1 for others. */
export interface RemoteFile {
  path: string
  size: number
  etag: string
}

/** A repository of a hub at a revision, reduced to the three questions that are put to it. */
export interface Remote {
  /** The commit that the revision stands for. `max_retries` overrides the setting. */
  commit(max_retries?: number): Promise<string>
  files(commit: string, max_retries?: number): Promise<RemoteFile[]>
  /** One attempt to read a file from byte `start`. `start` of the answer is 0 where the server ignored the range. */
  open(commit: string, file: RemoteFile, start: number): Promise<RemoteBody>
}

export interface RemoteBody {
  start: number
  body: ReadableStream<Uint8Array>
}

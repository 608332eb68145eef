/** Where a training keeps its checkpoints, its log and its report. */

import type { Source } from '../../backend/contract.js'

export interface StoredFile {
  name: string
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>
}

/**
 * Folders of files, one level deep, beside files of their own. A folder is there as a whole or not at all, whatever ends
 * the process while it is written or removed.
 *
 * @throws {FileError} `FILE_READ` from every method where the platform cannot write or read; a full disk included.
 */
export interface TrainingStore {
  /** For messages: a path, or what stands for it. */
  readonly location: string
  /** Names of complete folders, in no order. What an interrupted writer left is not among them. */
  folders(): Promise<string[]>
  /** Writes a folder; one of the same name is replaced. */
  write_folder(name: string, files: AsyncIterable<StoredFile> | Iterable<StoredFile>): Promise<void>
  remove_folder(name: string): Promise<void>
  /** Names and sizes of a folder's files; of the store's own files without `folder`. */
  files(folder?: string): Promise<{ name: string; size: number }[]>
  /** A file's bytes; null where there is none. */
  read(name: string, folder?: string): Promise<Uint8Array | null>
  /** A file as the backends read it; null where there is none. */
  source(name: string, folder?: string): Promise<Source | null>
  /** Writes one of the store's own files, whole or not at all. */
  write(name: string, chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void>
  /** Adds to the end of one of the store's own files. */
  append(name: string, text: string): Promise<void>
  remove(name: string): Promise<void>
  /** Removes what interrupted writers left. */
  tidy(): Promise<void>
}

export async function* one_file(name: string, text: string): AsyncGenerator<StoredFile, void, undefined> {
  yield text_file(name, text)
}

export function text_file(name: string, text: string): StoredFile {
  return { name, chunks: [new TextEncoder().encode(text)] }
}

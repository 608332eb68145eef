/** What a server of plain files has and can do. Loaded where it is asked: for large files, and for errors. */

import type { Source, SourceAddress } from '../../backend/contract.js'
import { FileError, HubError, InputError, type SwitchTransformersError } from '../../errors.js'
import { describe, type Subject } from '../failures.js'
import { chunks_of, type RequestSettings, request } from '../request.js'

/** Servers do not list folders, so these are asked for. */
const KNOWN_FILES = [
  'config.json',
  'generation_config.json',
  'model.safetensors',
  'model.safetensors.index.json',
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
  'special_tokens_map.json',
  'spiece.model',
  'tokenizer.json',
  'tokenizer_config.json',
]

/** Those that `has` finds. */
export async function known_files(has: (file: string) => Promise<boolean>): Promise<string[]> {
  const found = await Promise.all(KNOWN_FILES.map(has))
  return KNOWN_FILES.filter((_, i) => found[i])
}

/** The error where `file` is needed and absent. */
export function absent_file(file: string, folder: URL, files: string[]): SwitchTransformersError {
  const there = files.length > 0 ? `It has ${files.join(', ')}` : 'None of the usual files is there'
  const message = `There is no ${file} at ${folder.href}. ${there}.`
  return new FileError('FILE_NOT_FOUND', message, { details: { file, folder: folder.href, files } })
}

/**
 * How to read the file of `size` bytes at `url` in parts; null where its server does not give them.
 */
export async function parts_of(
  url: URL,
  size: number,
  settings: RequestSettings,
  subject: Subject,
): Promise<SourceAddress | null> {
  try {
    const response = await request(settings, url, { headers: { range: 'bytes=0-0' } }, subject)
    let found = 0
    for await (const chunk of chunks_of(response.body)) found += chunk.length
    // Servers of other origins need not show this header.
    const total = /\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1]
    if (response.status !== 206 || found !== 1 || (total && Number(total) !== size)) return null
  } catch (error) {
    if (settings.signal?.aborted) throw error
    return null
  }
  const { timeout_ms, max_retries, retry_delay_ms } = settings
  return { url: url.href, timeout_ms, max_retries, retry_delay_ms }
}

/** Throws: files that are read in parts are not for reading whole. */
export function refuse_whole({ name, size }: Source): never {
  throw new InputError(`${name} has ${size} bytes, too many to be read at once.`)
}

/** The error where a part was refused though none was asked for. */
export function refused(url: URL, subject: Subject): HubError {
  const message = `${url.host} refused ${describe(subject)} with HTTP 416.`
  return new HubError('HUB_NETWORK', message, { details: { status: 416, ...subject } })
}

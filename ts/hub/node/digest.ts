/** The hashes that name a file's content on the hub. */

import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { throw_if_aborted } from '../../errors.js'

/**
 * A hash of the kind that `etag` is: SHA-256 of the bytes (large files), or the SHA-1 that git gives a blob, which is
 * over a header with the size and then the bytes.
 */
export function hash_for(etag: string, size: number): Hash {
  return etag.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`)
}

/** Adds the first `length` bytes of a file to `hash`. */
export async function hash_file(hash: Hash, path: string, length: number, signal?: AbortSignal): Promise<Hash> {
  if (length === 0) return hash
  const stream = createReadStream(path, { end: length - 1, highWaterMark: 1024 * 1024 })
  for await (const chunk of stream) {
    throw_if_aborted(signal)
    hash.update(chunk as Buffer)
  }
  return hash
}

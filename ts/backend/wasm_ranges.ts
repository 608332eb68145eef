/**
 * A file on a server, read in parts as the module asks for them: synchronously, which only workers can, and kept nowhere
 * else. For files that a browser cannot hold beside the weights: what has been read is garbage that Chromium collects
 * late (0.3 to 0.5 GB were seen at 1.24 GB of weights), so that blobs take less for files which fit into them.
 */

import type { SourceAddress } from './contract.js'
import type { OpenSource } from './wasm_serve.js'

/** What a request brings. Less would be many requests; more would be garbage that a page's memory has to hold. */
const PART_BYTES = 4 * 2 ** 20
/** Tensors are not read in the order of the file, but its neighbours soon. */
const KEPT_PARTS = 4

/** `size` in bytes. What cannot be read throws an error that says why. */
export function open_ranges(name: string, size: number, address: SourceAddress): OpenSource {
  const parts = new Map<number, Uint8Array>()
  let version: string | null = null
  const xhr = new XMLHttpRequest()

  const part = (index: number): Uint8Array => {
    const start = index * PART_BYTES
    const end = Math.min(start + PART_BYTES, size)
    const found = parts.get(index) ?? attempts(address, () => request(start, end))
    // The one that was used last is the last.
    parts.delete(index)
    parts.set(index, found)
    for (const [oldest] of parts) if (parts.size > KEPT_PARTS) parts.delete(oldest)
    return found
  }

  const request = (start: number, end: number): Uint8Array | string => {
    xhr.open('GET', address.url, false)
    xhr.responseType = 'arraybuffer'
    // Of the whole part: there is no event by which silence could be told.
    xhr.timeout = 4 * address.timeout_ms
    xhr.setRequestHeader('range', `bytes=${start}-${end - 1}`)
    const wanted = `bytes ${start} to ${end - 1} of ${name}`
    try {
      xhr.send()
    } catch {
      return `the connection failed while ${wanted} were read`
    }
    const { status, response } = xhr
    if (status === 429 || status >= 500) return `the server answered HTTP ${status} for ${wanted}`
    if (status !== 206) throw new Error(`the server answered HTTP ${status} for ${wanted}, not 206`)
    const bytes = new Uint8Array(response as ArrayBuffer)
    if (bytes.length !== end - start) return `the server sent ${bytes.length} bytes for ${wanted}`
    const now = xhr.getResponseHeader('etag') ?? xhr.getResponseHeader('last-modified')
    if (version !== null && now !== version) throw new Error(`${name} has changed on the server while it was read`)
    version = now
    return bytes
  }

  return {
    read(offset, into) {
      for (let at = 0; at < into.length; ) {
        const index = Math.floor((offset + at) / PART_BYTES)
        const from = offset + at - index * PART_BYTES
        const bytes = part(index).subarray(from, from + into.length - at)
        into.set(bytes, at)
        at += bytes.length
      }
    },
    close: () => parts.clear(),
  }
}

/** Again, after a pause, while what went wrong may pass: `work` then returns what it was. */
function attempts({ max_retries, retry_delay_ms }: SourceAddress, work: () => Uint8Array | string): Uint8Array {
  for (let failures = 0; ; failures++) {
    const outcome = work()
    if (typeof outcome !== 'string') return outcome
    if (failures >= max_retries) throw new Error(`${outcome}, ${failures + 1} times in a row`)
    // Engines make shared memory even where SharedArrayBuffer is not to be had.
    const { buffer } = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true })
    Atomics.wait(new Int32Array(buffer), 0, 0, retry_delay_ms * 2 ** failures)
  }
}

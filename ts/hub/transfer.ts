/**
 * One file, from a hub into a sink: broken connections are taken up where they broke, and nothing longer than announced
 * is written. There is no If-Range: a file is fetched by commit and named by its hash, so what is there cannot be of
 * another version, and the hash of the whole is checked in the end.
 */

import { HubError } from '../errors.js'
import { describe, foreign_answer, integrity_error, Passing, RangeRefused, type Subject } from './failures.js'
import { chunks_of, pause, type RequestSettings, request } from './request.js'
import type { RemoteBody, RemoteFile } from './types.js'

/** Where a file's bytes go, in order. */
export interface Sink {
  /** Bytes that are there. */
  readonly size: number
  write(chunk: Uint8Array): Promise<void>
  /** Forgets all bytes. */
  restart(): Promise<void>
}

/** More than one is a server that cannot be believed. */
const MAX_RESTARTS = 2

/**
 * Fills `sink` up to `file.size` bytes. Throws HUB_NETWORK when that took too many attempts in a row without progress,
 * HUB_INTEGRITY when the server has another number of bytes, ABORTED, or what the sink throws.
 */
export async function transfer(
  settings: RequestSettings,
  open: (start: number) => Promise<RemoteBody>,
  sink: Sink,
  file: RemoteFile,
  subject: Subject,
  on_bytes: (loaded: number) => void,
): Promise<void> {
  let failures = 0
  let restarts = 0
  if (sink.size > file.size) await sink.restart()
  while (sink.size < file.size) {
    const before = sink.size
    try {
      const part = await open(sink.size)
      if (part.start !== sink.size) await sink.restart()
      for await (const chunk of chunks_of(part.body)) {
        if (sink.size + chunk.length > file.size) {
          const found = sink.size + chunk.length
          await sink.restart()
          throw integrity_error(subject, 'size', file.size, found)
        }
        await sink.write(chunk)
        on_bytes(sink.size)
      }
      if (sink.size < file.size) {
        const message = `The connection ended after ${sink.size} of ${file.size} bytes of ${describe(subject)}. What has arrived is kept; try again.`
        throw new Passing(new HubError('HUB_NETWORK', message, { details: { ...subject } }))
      }
    } catch (error) {
      if (error instanceof RangeRefused) {
        if (++restarts > MAX_RESTARTS) throw integrity_error(subject, 'size', file.size, before)
        await sink.restart()
        continue
      }
      if (!(error instanceof Passing)) throw error
      failures = sink.size > before ? 1 : failures + 1
      if (failures > settings.max_retries) throw error.error
      await pause(settings, failures, error)
    }
  }
}

/**
 * One attempt to read `file` from byte `start`. Throws where the headers say that what follows cannot be its bytes. The
 * answer's `start` is 0 where the server ignored the range.
 */
export async function request_body(
  settings: RequestSettings,
  url: URL,
  init: RequestInit,
  file: RemoteFile,
  start: number,
  subject: Subject,
): Promise<{ start: number; response: Response }> {
  const headers = new Headers(init.headers)
  // Sizes are compared, so they must be those of the file itself.
  if (settings.raw_http) headers.set('accept-encoding', 'identity')
  if (start > 0) headers.set('range', `bytes=${start}-${file.size - 1}`)
  const response = await request(settings, url, { ...init, headers }, subject)
  try {
    return { start: check_headers(settings, response, url, file, start, subject), response }
  } catch (error) {
    void response.body?.cancel().catch(() => {})
    throw error
  }
}

function check_headers(
  settings: RequestSettings,
  response: Response,
  url: URL,
  file: RemoteFile,
  start: number,
  subject: Subject,
): number {
  const { headers, status } = response
  const type = headers.get('content-type') ?? ''
  if (/^text\/html\b/.test(type) && !/\.html?$/.test(file.path)) {
    throw foreign_answer(response, url, subject, 'the file')
  }
  if (status === 206) {
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get('content-range') ?? '')
    if (!range || Number(range[1]) !== start) throw new RangeRefused()
    if (range[2] !== '*' && Number(range[2]) !== file.size) {
      throw integrity_error(subject, 'size', file.size, Number(range[2]))
    }
    return start
  }
  if (status !== 200) throw foreign_answer(response, url, subject, `the file (HTTP ${status})`)
  const length = headers.get('content-length')
  // A browser hides the coding, so there the length may be that of compressed bytes.
  const comparable = settings.raw_http && !headers.has('content-encoding')
  if (length !== null && comparable && Number(length) !== file.size) {
    throw integrity_error(subject, 'size', file.size, Number(length))
  }
  return 0
}

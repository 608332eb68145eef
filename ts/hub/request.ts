/**
 * HTTP with the manners that a download needs: time limits on silence, retries, a token that stays with its host, and
 * typed errors. Knows only web APIs.
 */

import { AbortError, HubError } from '../errors.js'
import {
  connection_error,
  describe,
  foreign_answer,
  Passing,
  RangeRefused,
  type Subject,
  stall_error,
  status_error,
} from './failures.js'

export interface RequestSettings {
  /** Address of the hub, without a slash at its end. Only its origin gets the token. */
  endpoint: string
  token: string | undefined
  signal: AbortSignal | undefined
  fetch: typeof fetch
  timeout_ms: number
  max_retries: number
  retry_delay_ms: number
  /**
   * Whether redirects and content codings are ours to handle, so that the token is sent to the hub alone whatever `fetch`
   * does. Browsers do not let scripts see either; they drop the token themselves when the origin changes.
   */
  raw_http: boolean
}

const MAX_REDIRECTS = 10
/** A listing of a hundred thousand files is below this. */
const MAX_JSON_BYTES = 64 * 1024 * 1024
const MAX_DELAY_MS = 10_000

/** Reads a JSON answer completely, retrying what may pass. Shaped like `fetch`'s answer, for clients built on it. */
export async function request_json(
  settings: RequestSettings,
  url: URL,
  init: RequestInit,
  subject: Subject,
  max_retries = settings.max_retries,
): Promise<Response> {
  return retrying(settings, () => read_json(settings, url, init, subject), max_retries)
}

/** Does `work` again while it fails for reasons that may pass. */
export async function retrying<T>(
  settings: RequestSettings,
  work: () => Promise<T>,
  max_retries = settings.max_retries,
): Promise<T> {
  for (let failures = 1; ; failures++) {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof Passing)) throw error
      if (failures > max_retries) throw error.error
      await pause(settings, failures, error)
    }
  }
}

async function read_json(settings: RequestSettings, url: URL, init: RequestInit, subject: Subject): Promise<Response> {
  const response = await request(settings, url, init, subject)
  if (!/\bjson\b/.test(response.headers.get('content-type') ?? '')) {
    void response.body?.cancel()
    throw foreign_answer(response, url, subject, 'JSON')
  }
  const chunks: Uint8Array<ArrayBuffer>[] = []
  let size = 0
  for await (const chunk of chunks_of(response.body)) {
    size += chunk.length
    if (size > MAX_JSON_BYTES) {
      const message = `The answer of ${url.host} about ${describe(subject)} is larger than ${MAX_JSON_BYTES} bytes.`
      throw new HubError('HUB_NETWORK', message)
    }
    chunks.push(chunk.slice())
  }
  const text = await new Blob(chunks).text()
  try {
    JSON.parse(text)
  } catch (cause) {
    throw new HubError('HUB_NETWORK', `The answer of ${url.host} about ${describe(subject)} is not JSON.`, { cause })
  }
  const headers = new Headers(response.headers)
  // The text is decoded: these would describe what it was.
  headers.delete('content-encoding')
  headers.delete('content-length')
  return new Response(text, { status: response.status, headers })
}

/**
 * One attempt: the answer with its headers, status below 400. A chunk of its body is good until the next one is asked
 * for, where it is overwritten. The body fails with `Passing` when the connection breaks
 * or stalls, and with an `AbortError` when the caller's signal fires.
 */
export async function request(
  settings: RequestSettings,
  url: URL,
  init: RequestInit,
  subject: Subject,
): Promise<Response> {
  const { signal, timeout_ms } = settings
  if (signal?.aborted) throw new AbortError(undefined, { cause: signal.reason })
  const controller = new AbortController()
  let stalled = false
  let begun = false
  let timer: ReturnType<typeof setTimeout> | undefined
  const disarm = () => clearTimeout(timer)
  const arm = () => {
    disarm()
    timer = setTimeout(() => {
      stalled = true
      controller.abort()
    }, timeout_ms)
  }
  const on_abort = () => controller.abort()
  signal?.addEventListener('abort', on_abort, { once: true })
  const finish = () => {
    disarm()
    signal?.removeEventListener('abort', on_abort)
  }
  const explain = (cause: unknown): unknown => {
    if (signal?.aborted) return new AbortError(undefined, { cause: signal.reason })
    if (cause instanceof HubError || cause instanceof Passing || cause instanceof RangeRefused) return cause
    return stalled ? stall_error(url, subject, timeout_ms) : connection_error(cause, url, subject, begun)
  }

  try {
    arm()
    const response = await follow(settings, url, { ...init, signal: controller.signal }, subject)
    disarm()
    if (response.status >= 400) {
      void response.body?.cancel().catch(() => {})
      if (response.status === 416) throw new RangeRefused()
      throw status_error(response, url, subject, settings.token !== undefined)
    }
    if (!response.body) {
      finish()
      return response
    }
    begun = true
    const reader = settings.raw_http ? response.body.getReader() : reader_of(response.body)
    const body = new ReadableStream<Uint8Array<ArrayBuffer>>(
      {
        async pull(stream) {
          try {
            // Only our waiting counts: a slow consumer is not a stalled connection.
            arm()
            const { done, value } = await reader.read()
            disarm()
            if (!done) return stream.enqueue(value as Uint8Array<ArrayBuffer>)
            finish()
            stream.close()
          } catch (error) {
            finish()
            stream.error(explain(error))
          }
        },
        cancel() {
          finish()
          controller.abort()
        },
      },
      { highWaterMark: 0 },
    )
    // A Response cannot be built with a null-body status, which none with a body has.
    return new Response(body, { status: response.status, headers: response.headers })
  } catch (error) {
    finish()
    throw explain(error)
  }
}

const CHUNK_BYTES = 2 ** 18

/**
 * Reads into the same buffer again and again where the engine can, in browsers: the garbage of a large download, one array per
 * chunk, would take as much memory as the file.
 */
function reader_of(body: ReadableStream<Uint8Array>): {
  read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>
} {
  let reader: ReadableStreamBYOBReader
  try {
    reader = body.getReader({ mode: 'byob' })
  } catch {
    return body.getReader()
  }
  let buffer = new ArrayBuffer(CHUNK_BYTES)
  return {
    async read() {
      const { done, value } = await reader.read(new Uint8Array(buffer))
      if (value !== undefined) buffer = value.buffer
      return { done, value }
    },
  }
}

async function follow(settings: RequestSettings, first: URL, init: RequestInit, subject: Subject): Promise<Response> {
  const home = new URL(settings.endpoint).origin
  const { fetch } = settings
  let url = first
  for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
    const headers = new Headers(init.headers)
    headers.delete('authorization')
    if (settings.token !== undefined && url.origin === home) headers.set('authorization', `Bearer ${settings.token}`)
    const redirect = settings.raw_http ? 'manual' : 'follow'
    const response = await fetch(url, { ...init, headers, redirect })
    const location = response.headers.get('location')
    if (response.status < 300 || response.status >= 400 || location === null) return response
    void response.body?.cancel().catch(() => {})
    url = new URL(location, url)
    if (url.protocol !== 'https:' && url.protocol !== 'http:') break
  }
  const message = `${first.host} redirected ${describe(subject)} too often, or to an address that is not one of the web.`
  throw new HubError('HUB_NETWORK', message)
}

/** Waits before the next attempt: twice as long each time, or as long as the server asked for. */
export async function pause(settings: RequestSettings, failures: number, error: Passing): Promise<void> {
  const delay = Math.min(settings.retry_delay_ms * 2 ** (failures - 1), MAX_DELAY_MS)
  await wait(error.retry_after_ms ?? delay, settings.signal)
}

export function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const on_abort = () => {
      clearTimeout(timer)
      reject(new AbortError(undefined, { cause: signal?.reason }))
    }
    if (signal?.aborted) return reject(new AbortError(undefined, { cause: signal.reason }))
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', on_abort)
      resolve()
    }, ms)
    signal?.addEventListener('abort', on_abort, { once: true })
  })
}

/** The chunks of a stream. Leaving the loop early cancels it. (Not every browser can iterate a stream.) */
export async function* chunks_of(body: ReadableStream<Uint8Array> | null): AsyncGenerator<Uint8Array, void, void> {
  if (!body) return
  const reader = body.getReader()
  let done = false
  try {
    while (true) {
      const part = await reader.read()
      done = part.done
      if (part.done) return
      yield part.value
    }
  } finally {
    if (!done) void reader.cancel().catch(() => {})
  }
}

/** The module in the calling thread, for those who run the library in a worker of their own (`env.wasm.worker: false`). */

import type { Source } from './contract.js'
import { compile_in_browser, open_in_browser } from './wasm_browser.js'
import type { FromWorker, ToWorker, WorkerPort } from './wasm_protocol.js'
import { serve } from './wasm_serve.js'

export function local_port(): WorkerPort {
  let tell: ((message: FromWorker) => void) | undefined
  const start = () => serve({ post: (message) => tell?.(message), compile: compile_in_browser, open: open_in_browser })
  let handle: ReturnType<typeof start> | undefined = start()
  return {
    post(message) {
      readable(message).then(
        (ready) => handle?.(ready),
        (error) => {
          if (message.type === 'call') tell?.({ type: 'error', id: message.id, message: unreadable(error) })
        },
      )
    },
    listen(on_message) {
      tell = on_message
    },
    async terminate() {
      // Nothing else holds the instance and its memory.
      handle = undefined
      tell = undefined
    },
  }
}

/** A page can read neither blobs nor addresses synchronously: there their bytes are held in memory while they are read. */
async function readable(message: ToWorker): Promise<ToWorker> {
  if (message.type !== 'call' || message.sources.length === 0 || 'FileReaderSync' in globalThis) return message
  const with_bytes = async (source: Source): Promise<Source> => {
    const whole = source.blob ?? (source.address && (await fetched(source.address.url)))
    return whole ? { ...source, bytes: new Uint8Array(await whole.arrayBuffer()) } : source
  }
  return { ...message, sources: await Promise.all(message.sources.map(with_bytes)) }
}

async function fetched(url: string): Promise<Response> {
  const response = await fetch(url)
  if (!response.ok) throw new Error(`${url} answered HTTP ${response.status}`)
  return response
}

/** As an operation fails. */
function unreadable(error: unknown): string {
  const reason = error instanceof Error ? error.message : String(error)
  return JSON.stringify({ code: 'FILE_READ', message: `The file could not be read: ${reason}.` })
}

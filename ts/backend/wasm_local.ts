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
      void readable(message).then((ready) => handle?.(ready))
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

/** A page cannot read blobs synchronously: there their bytes are held in memory while they are read. */
async function readable(message: ToWorker): Promise<ToWorker> {
  if (message.type !== 'call' || message.sources.length === 0 || 'FileReaderSync' in globalThis) return message
  const with_bytes = async (source: Source): Promise<Source> =>
    source.blob === undefined ? source : { ...source, bytes: new Uint8Array(await source.blob.arrayBuffer()) }
  return { ...message, sources: await Promise.all(message.sources.map(with_bytes)) }
}

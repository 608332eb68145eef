/** The browser's worker: the WASM module, behind the protocol. Started by the browser entry; no blob, no eval. */

import { compile_in_browser, open_in_browser } from './wasm_browser.js'
import type { FromWorker, ToWorker } from './wasm_protocol.js'
import { serve } from './wasm_serve.js'

interface WorkerScope {
  postMessage(message: FromWorker, transfer: Transferable[]): void
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null
}

const scope = globalThis as unknown as WorkerScope

const handle = serve({
  post: (message, transfer) => scope.postMessage(message, transfer),
  compile: compile_in_browser,
  open: open_in_browser,
})

scope.onmessage = (event) => handle(event.data)

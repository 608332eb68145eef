/** How browsers give the backends what they need. */

import type { BackendPlatform } from './platform.js'
import type { FromWorker, WorkerPort } from './wasm_protocol.js'

function worker_port(url: string | URL | undefined): WorkerPort {
  // Written out where it is used: bundlers find the worker by this very expression.
  const worker =
    url === undefined
      ? new Worker(new URL('./wasm_worker.js', import.meta.url), { type: 'module' })
      : new Worker(url, { type: 'module' })
  return {
    post: (message, transfer) => worker.postMessage(message, transfer ?? []),
    listen(on_message, on_failure) {
      worker.onmessage = (event: MessageEvent<FromWorker>) => on_message(event.data)
      worker.onerror = (event) => on_failure(new Error(event.message || 'its script could not be loaded'))
      worker.onmessageerror = () => on_failure(new Error('a message could not be read'))
    },
    terminate: async () => worker.terminate(),
  }
}

export const browser_backend_platform: BackendPlatform = {
  env: () => undefined,
  concurrency: () => globalThis.navigator?.hardwareConcurrency ?? 1,
  start_worker: worker_port,
  has_workers: typeof Worker !== 'undefined',
  // Not part of the entry: few need it.
  start_local: async () => (await import('./wasm_local.js')).local_port,
}

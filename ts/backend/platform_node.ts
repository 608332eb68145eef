/** How Node gives the backends what they need. */

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'

import type { NativeBinding } from './contract.js'
import type { BackendPlatform } from './platform.js'
import type { FromWorker, WorkerPort } from './wasm_protocol.js'

/** Beside the bundled entry. */
const WORKER = new URL('./wasm_worker_node.js', import.meta.url)
/** From the sources, which only tests import: the built worker. */
const BUILT_WORKER = new URL('../../dist/wasm_worker_node.js', import.meta.url)

function worker_port(url: string | URL | undefined): WorkerPort {
  const worker = new Worker(url ?? (existsSync(fileURLToPath(WORKER)) ? WORKER : BUILT_WORKER))
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    listen(on_message, on_failure) {
      worker.on('message', (message: FromWorker) => on_message(message))
      worker.on('error', on_failure)
      worker.on('exit', (code) => on_failure(new Error(`it exited with code ${code}`)))
    },
    terminate: async () => {
      await worker.terminate()
    },
    ref: () => worker.ref(),
    unref: () => worker.unref(),
  }
}

/** The addon's loader: beside the bundled entry, or, from the sources, where it is built. */
const LOADERS = ['./native.cjs', '../../bindings/node/index.js']

function load_native(): NativeBinding {
  const require = createRequire(import.meta.url)
  const found = LOADERS.find((file) => existsSync(fileURLToPath(new URL(file, import.meta.url))))
  if (found === undefined) throw new Error('this installation has no native part')
  return require(found) as NativeBinding
}

export const node_backend_platform: BackendPlatform = {
  env: (name) => process.env[name],
  load_native,
  start_worker: worker_port,
}

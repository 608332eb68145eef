/** How Node gives the backends what they need. */

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { type TransferListItem, Worker } from 'node:worker_threads'

import type { NativeBinding } from './contract.js'
import { NativeBackend } from './native.js'
import { as_binding } from './native_addon.js'
import type { BackendPlatform } from './platform.js'
import type { FromWorker, WorkerPort } from './wasm_protocol.js'

/** Beside the bundled entry. */
const WORKER = new URL('./wasm_worker_node.js', import.meta.url)
/** From the sources, which only tests import: the built worker. */
const BUILT_WORKER = new URL('../../dist/wasm_worker_node.js', import.meta.url)

function worker_port(url: string | URL | undefined): WorkerPort {
  const script = url ?? (existsSync(fileURLToPath(WORKER)) ? WORKER : BUILT_WORKER)
  // Flags of the process, such as --input-type, are about its own script.
  const worker = new Worker(script, { execArgv: [] })
  return {
    // The global ports are Node's own, which its types do not say.
    post: (message, transfer) => worker.postMessage(message, transfer as TransferListItem[]),
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

/** The platform as napi's users name it in packages: linux-x64-gnu, darwin-arm64, win32-x64-msvc. */
function platform_name(): string {
  const { platform, arch } = process
  if (platform === 'linux') return `linux-${arch}-${glibc_version() === undefined ? 'musl' : 'gnu'}`
  return platform === 'win32' ? `win32-${arch}-msvc` : `${platform}-${arch}`
}

function glibc_version(): unknown {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: unknown } } | undefined
  return report?.header?.glibcVersionRuntime
}

/** The addon: built in this clone (seen from `dist` or from the sources), or the platform's own package. */
function load_binding(): NativeBinding {
  const require = createRequire(import.meta.url)
  const platform = platform_name()
  const built = ['..', '../..']
    .map((root) =>
      fileURLToPath(new URL(`${root}/bindings/node/switch-transformers.${platform}.node`, import.meta.url)),
    )
    .find((file) => existsSync(file))
  if (built !== undefined) return as_binding(require(built))
  const name = `switch-transformers-${platform}`
  try {
    return as_binding(require(name))
  } catch (cause) {
    if ((cause as { code?: unknown }).code !== 'MODULE_NOT_FOUND') throw cause
    throw new Error(`there is no build for ${platform}: the optional package ${name} is not installed`, { cause })
  }
}

export const node_backend_platform: BackendPlatform = {
  env: (name) => process.env[name],
  load_native: () => new NativeBackend(load_binding()),
  concurrency: availableParallelism,
  start_worker: worker_port,
}

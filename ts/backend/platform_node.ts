/** How Node gives the backends what they need. */

import { existsSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { type TransferListItem, Worker } from 'node:worker_threads'

import { package_file } from '../utils/package_files.js'
import type { NativeBinding } from './contract.js'
import { NativeBackend } from './native.js'
import { as_binding } from './native_addon.js'
import type { BackendPlatform } from './platform.js'
import type { FromWorker, WorkerPort } from './wasm_protocol.js'

function worker_port(url: string | URL | undefined): WorkerPort {
  const script = url ?? package_file('dist/wasm_worker_node.js')
  // Flags of the process, such as --input-type, are about its own script. Not by `new`: bundlers that bundle this entry
  // for a server take that for a script of theirs, and every file of the package for what it could be.
  const worker: Worker = Reflect.construct(Worker, [script, { execArgv: [] }])
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

/** The addon with CUDA where there is one: it can all that the other can. A build in this clone counts while it is the newer. */
function cuda_addon(require: NodeJS.Require, platform: string, plain: string): NativeBinding | undefined {
  if (process.env.SWITCH_CUDA === '0') return undefined
  const here = package_file(`bindings/node/cuda/switch-transformers.${platform}-cuda.node`)
  const is_built = existsSync(plain)
  if (existsSync(here) && (!is_built || statSync(here).mtimeMs >= statSync(plain).mtimeMs)) {
    return as_binding(require(here))
  }
  if (is_built) return undefined
  const name = `switch-transformers-${platform}-cuda`
  try {
    return as_binding(require(name))
  } catch {
    // Not installed, or for another glibc: the plain addon serves.
    return undefined
  }
}

/** The addon: built in this clone, or the platform's own package. */
function load_binding(): NativeBinding {
  const require = createRequire(package_file('package.json'))
  const platform = platform_name()
  const built = package_file(`bindings/node/switch-transformers.${platform}.node`)
  const with_cuda = cuda_addon(require, platform, built)
  if (with_cuda !== undefined) return with_cuda
  if (existsSync(built)) return as_binding(require(built))
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

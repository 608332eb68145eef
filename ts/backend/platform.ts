/**
 * What the backends need from where they run. An entry (`ts/entry/node`, `ts/entry/browser`) sets it once, so that
 * nothing else imports a runtime's own modules.
 */

import type { NativeBackend } from './native.js'
import type { WorkerPort } from './wasm_protocol.js'

export interface BackendPlatform {
  /** The value of an environment variable, where there are any. */
  env(name: string): string | undefined
  /** Loads the native addon, or throws why it cannot be. Absent where no addon can exist. */
  load_native?: () => NativeBackend
  /** Threads that the machine runs at once. */
  concurrency?(): number
  /** Whether workers can be started here: not in a service worker. Default true. */
  has_workers?: boolean
  /** Gives what runs the WASM module in the calling thread instead. Absent where there is no reason to. */
  start_local?(): Promise<() => WorkerPort>
  /** Starts the worker that runs the WASM module. `url` is `env.wasm.worker_url`, where set. */
  start_worker(url?: string | URL): WorkerPort
}

let platform: BackendPlatform | undefined

export function set_backend_platform(value: BackendPlatform): void {
  platform = value
}

export function backend_platform(): BackendPlatform {
  if (platform === undefined) {
    throw new Error('No platform is set: import from "switch-transformers", not from one of its inner files.')
  }
  return platform
}

/** Which backend serves a model: what was asked for, what the machine has, and one shared instance of each kind. */

import { BackendError, OptionError } from '../errors.js'
import { invalid_option } from '../utils/invalid_option.js'
import { show } from '../utils/json.js'
import type { Backend } from './contract.js'
import type { NativeBackend } from './native.js'
import { backend_platform } from './platform.js'
import { wasm_origin, wasm as wasm_settings } from './settings.js'
import { WasmBackend } from './wasm.js'
import { choose_artefact } from './wasm_artefact.js'

export type BackendName = 'native' | 'wasm' | 'auto'

/** Where arithmetic is done. `auto` takes the best there is. */
export type DeviceName = 'auto' | 'cpu' | 'cuda' | 'wasm'

export interface BackendOptions {
  /**
   * The native addon, the WASM module, or whichever of them works here, natives first. Default: the environment
   * variable `SWITCH_BACKEND`, else `auto`.
   */
  backend?: BackendName
  /** Default `auto`. */
  device?: DeviceName
}

const BACKENDS: readonly string[] = ['native', 'wasm', 'auto'] satisfies BackendName[]
const DEVICES: readonly string[] = ['auto', 'cpu', 'cuda', 'wasm'] satisfies DeviceName[]

let native: NativeBackend | undefined
let wasm: Promise<WasmBackend> | undefined

/**
 * The backend for these options, started if it is not running.
 *
 * @throws {OptionError} for names that are no backend or device.
 * @throws {BackendError} `BACKEND_UNAVAILABLE` when what was asked for does not work here.
 */
export async function select_backend(options: BackendOptions = {}): Promise<Backend> {
  const { backend, device } = checked(options)
  if (backend === 'wasm') {
    if (device === 'cuda') throw unavailable("device: 'cuda' needs the native backend, and 'wasm' was chosen.")
    return start_wasm()
  }
  if (backend === 'native') {
    const chosen = start_native()
    if (device === 'cuda') await require_device(chosen, device)
    return chosen
  }
  let reason: unknown
  try {
    const chosen = start_native()
    if (device === 'cuda') await require_device(chosen, device)
    return chosen
  } catch (error) {
    if (device === 'cuda') throw error
    reason = error
  }
  try {
    return await start_wasm()
  } catch (error) {
    if (backend_platform().load_native === undefined) throw error
    throw unavailable(`No backend works here. Native: ${text_of(reason)} WASM: ${text_of(error)}`, error)
  }
}

/** Ends the shared backends. Every model on them is gone. */
export async function terminate_backends(): Promise<void> {
  const running = wasm
  wasm = undefined
  await (await running?.catch(() => undefined))?.terminate()
}

function checked(options: BackendOptions): { backend: BackendName; device: DeviceName } {
  const from_environment = backend_platform().env('SWITCH_BACKEND') || undefined
  let backend: unknown = options.backend ?? from_environment ?? 'auto'
  const device: unknown = options.device ?? 'auto'
  const name = options.backend === undefined && from_environment ? 'SWITCH_BACKEND' : 'backend'
  if (typeof backend !== 'string' || !BACKENDS.includes(backend)) {
    throw invalid_option(name, `${name} must be 'native', 'wasm' or 'auto', not ${show(backend)}.`)
  }
  if (typeof device !== 'string') {
    throw invalid_option('device', `device must be one of ${DEVICES.join(', ')}, not ${show(device)}.`)
  }
  if (!DEVICES.includes(device)) {
    throw new OptionError('UNSUPPORTED_OPTION', `device ${show(device)} is not supported; use ${DEVICES.join(', ')}.`, {
      details: { option: 'device', value: device },
    })
  }
  if (device === 'wasm') {
    if (backend === 'native') {
      throw invalid_option('device', "device: 'wasm' contradicts backend: 'native'.")
    }
    backend = 'wasm'
  }
  return { backend: backend as BackendName, device: device as DeviceName }
}

function start_native(): NativeBackend {
  if (native !== undefined) return native
  const load = backend_platform().load_native
  if (load === undefined) throw unavailable('The native backend exists in Node only.')
  try {
    native = load()
  } catch (error) {
    throw error instanceof BackendError
      ? error
      : unavailable(`The native addon cannot be loaded: ${text_of(error)}`, error)
  }
  return native
}

async function start_wasm(): Promise<WasmBackend> {
  const running = wasm
  if (running !== undefined) {
    const backend = await running.catch(() => undefined)
    // Another caller may have replaced it while this one waited.
    if (wasm !== running) return start_wasm()
    if (backend !== undefined && backend.failure === null) return backend
  }
  const started = launch_wasm()
  wasm = started
  try {
    return await started
  } catch (error) {
    if (wasm === started) wasm = undefined
    throw error instanceof BackendError
      ? error
      : unavailable(`The WASM backend cannot be started: ${text_of(error)}`, error)
  }
}

async function launch_wasm(): Promise<WasmBackend> {
  const { env, concurrency, start_worker, start_local, has_workers = true } = backend_platform()
  const { artefact, threads, worker = has_workers, worker_url } = wasm_settings
  const wanted = artefact ?? (env('SWITCH_WASM_ARTEFACT') || 'auto')
  const limit = threads ?? (Number(env('SWITCH_NUM_THREADS')) || undefined)
  const chosen = choose_artefact(wanted, worker ? limit : 1, concurrency?.() ?? 1)
  const origin = { ...wasm_origin(), artefact: chosen.artefact }
  if (worker) return WasmBackend.start(() => start_worker(worker_url), origin, chosen.threads)
  if (start_local === undefined) throw unavailable('env.wasm.worker: false works in browsers only.')
  return WasmBackend.start(await start_local(), origin)
}

async function require_device(backend: Backend, device: string): Promise<void> {
  const { devices, unavailable: reasons = {} } = (await backend.call('describe', {})).reply
  if (devices.some((name) => name === device || name.startsWith(`${device}:`))) return
  const reason = reasons[device] ?? `this build and machine have ${devices.join(', ')}`
  throw unavailable(`device: '${device}' is not available: ${reason}.`)
}

function unavailable(message: string, cause?: unknown): BackendError {
  return new BackendError('BACKEND_UNAVAILABLE', message, cause === undefined ? {} : { cause })
}

function text_of(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return text.endsWith('.') ? text : `${text}.`
}

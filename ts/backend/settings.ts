/** Where the WASM module and its worker come from; part of `env`. */

import type { OptionError } from '../errors.js'
import { invalid_option } from '../utils/invalid_option.js'
import { show } from '../utils/json.js'
import type { WasmArtefact } from './wasm_artefact.js'
import type { WasmOrigin } from './wasm_protocol.js'

export interface WasmSettings {
  /**
   * Which form of the module runs. `auto`, the default, takes the best that the engine has: relaxed SIMD, else threads
   * where the page is isolated from other origins, else SIMD. In Node the environment variable `SWITCH_WASM_ARTEFACT`
   * says it too.
   */
  artefact?: WasmArtefact | 'auto'
  /** Threads, where memory can be shared. Default: as many as the machine has, 8 at most. */
  threads?: number
  /**
   * False: the module runs in the calling thread, for those who call from a worker of their own. In a page it would block
   * frames, and hold weights in memory twice while they are loaded. Browsers only. Default: true, but in service workers,
   * which cannot start workers.
   */
  worker?: boolean
  /** URL of the module. Default: the file that lies beside the worker. */
  url?: string | URL
  /** The module's bytes, instead of a URL. */
  binary?: ArrayBuffer | Uint8Array
  /** The compiled module, instead of a URL. */
  module?: WebAssembly.Module
  /** URL of the worker's script. Default: the one that lies beside this package's entry. */
  worker_url?: string | URL
}

/** Set these before the first model is loaded; a running backend is not changed. */
export const wasm: WasmSettings = {}

/** Where the module comes from, in the form that is posted to a worker. */
export function wasm_origin(): WasmOrigin {
  const { url, binary, module } = wasm
  const given = [url, binary, module].filter((value) => value !== undefined)
  if (given.length > 1) throw invalid('takes one of url, binary and module, and has several')
  if (url !== undefined && typeof url !== 'string' && !(url instanceof URL))
    throw invalid(`.url must be a URL, not ${show(url)}`)
  const bytes = binary instanceof ArrayBuffer ? new Uint8Array(binary) : binary
  if (bytes !== undefined && !(bytes instanceof Uint8Array)) throw invalid(`.binary must be bytes, not ${show(bytes)}`)
  return {
    ...(url !== undefined && { url: String(url) }),
    ...(bytes !== undefined && { binary: bytes }),
    ...(module !== undefined && { module }),
  }
}

function invalid(what: string): OptionError {
  return invalid_option('env.wasm', `env.wasm${what.startsWith('.') ? '' : ' '}${what}.`)
}

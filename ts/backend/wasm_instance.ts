/** Starts the WASM module and gives its operations. The only place that knows the generated glue. */

import init, * as exports from '../../bindings/wasm/pkg/switch_transformers.js'
import type { WasmBinding } from './contract.js'

export interface WasmInstance {
  binding: WasmBinding
  /** Bytes of the last allocation if it failed, else 0. */
  failed_allocation(): number
}

/** `source` is what the module is made from: its URL, its bytes, or itself. */
export async function start_wasm_instance(
  source: string | URL | BufferSource | WebAssembly.Module,
): Promise<WasmInstance> {
  await init({ module_or_path: source })
  // Checked here: the generated types are those of the contract.
  const binding: WasmBinding = exports
  return { binding, failed_allocation: () => exports.failed_allocation() }
}

/** Starts the WASM module and gives its operations. The only place that knows the generated glue. */

import { make_glue } from '../../bindings/wasm/pkg/glue.js'
import type { WasmBinding } from './contract.js'

export interface WasmInstance {
  binding: WasmBinding
  /** Bytes of the last allocation if it failed, else 0. */
  failed_allocation(): number
  module: WebAssembly.Module
  /** The memory, where it is shared. */
  shared_memory?: WebAssembly.Memory
}

const PAGE = 2 ** 16
/** As the module declares it, and less for engines that cannot set so much of the address space aside. */
const MOST_PAGES = [2 ** 32 / PAGE, 2 ** 31 / PAGE, 2 ** 30 / PAGE]
/** Above what the module needs to begin with. */
const FIRST_PAGES = 64

/** A fresh instance. A module with shared memory joins `memory` where it is given, and makes its own otherwise. */
export async function start_wasm_instance(
  module: WebAssembly.Module,
  memory?: WebAssembly.Memory,
): Promise<WasmInstance> {
  const is_shared = WebAssembly.Module.imports(module).some(({ kind }) => kind === 'memory')
  const shared_memory = is_shared ? (memory ?? make_memory()) : undefined
  const { init, ...exports } = make_glue()
  await init({ module_or_path: module, ...(shared_memory && { memory: shared_memory }) })
  // Checked here: the generated types are those of the contract.
  const binding: WasmBinding = exports
  const { failed_allocation } = exports
  return { binding, failed_allocation, module, ...(shared_memory && { shared_memory }) }
}

function make_memory(): WebAssembly.Memory {
  let reason: unknown
  for (const maximum of MOST_PAGES) {
    try {
      return new WebAssembly.Memory({ initial: FIRST_PAGES, maximum, shared: true })
    } catch (error) {
      reason = error
    }
  }
  throw reason
}

/** Lends this worker to the kernels of a module that runs in another one. Ends with its worker. */
export async function help_wasm_instance(
  { module, memory }: { module: WebAssembly.Module; memory: WebAssembly.Memory },
  on_ready: () => void,
): Promise<never> {
  const { init, help } = make_glue()
  await init({ module_or_path: module, memory })
  on_ready()
  help()
  throw new Error('this module has no threads')
}

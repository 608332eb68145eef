/** The messages between the facade and the worker that runs the WASM module. Calls are answered in order. */

import type { OperationName, Source, WireTensor } from './contract.js'
import type { WasmArtefact } from './wasm_artefact.js'

/** Where the module comes from. `url`, `binary` and `module` absent: the artefact's file, which lies beside the worker. */
export interface WasmOrigin {
  /** Default `simd`. */
  artefact?: WasmArtefact
  url?: string
  binary?: Uint8Array
  module?: WebAssembly.Module
}

/**
 * A module whose memory is shared: what other workers need to lend themselves to it. It goes from worker to worker: a
 * page that has once seen the memory keeps it until its garbage is collected.
 */
export interface SharedModule {
  module: WebAssembly.Module
  memory: WebAssembly.Memory
}

export type ToWorker =
  /** `helpers` wait for a {@link SharedModule}, each at the other end of its port. */
  | { type: 'init'; origin: WasmOrigin; helpers: MessagePort[] }
  /** Lend yourself, for ever, to the kernels of the module that comes through the port. */
  | { type: 'help'; port: MessagePort }
  | { type: 'call'; id: number; name: OperationName; request: string; tensors: WireTensor[]; sources: Source[] }

export type FromWorker =
  /** `has_threads`: the helpers have been sent the module. */
  | { type: 'ready'; has_threads?: boolean }
  | { type: 'helping' }
  /** The module could not be started, or a helper failed; `message` is the JSON of `WireError`. */
  | { type: 'failed'; message: string }
  | { type: 'reply'; id: number; json: string; tensors: WireTensor[] }
  /** The operation failed; `message` is the JSON of `WireError`. */
  | { type: 'error'; id: number; message: string }
  /** The instance trapped and can serve no more calls. `failed_allocation`: bytes it asked for in vain, if it did. */
  | { type: 'trapped'; id: number; message: string; failed_allocation: number }

/** A worker, whichever runtime it is of. */
export interface WorkerPort {
  post(message: ToWorker, transfer?: (ArrayBuffer | MessagePort)[]): void
  listen(on_message: (message: FromWorker) => void, on_failure: (error: Error) => void): void
  terminate(): Promise<void>
  /** Keeps the process alive while a call is under way, and lets it end otherwise. Nothing to do in a browser. */
  ref?(): void
  unref?(): void
}

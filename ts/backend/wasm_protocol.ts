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

/** A module whose memory is shared: what other workers need to lend themselves to it. */
export interface SharedModule {
  module: WebAssembly.Module
  memory: WebAssembly.Memory
}

export type ToWorker =
  /** `threads` above 1: the answer brings the module along, if its memory is shared. */
  | { type: 'init'; origin: WasmOrigin; threads: number }
  /** Lend yourself to the kernels of a module that runs in another worker, for ever. */
  | ({ type: 'help' } & SharedModule)
  | { type: 'call'; id: number; name: OperationName; request: string; tensors: WireTensor[]; sources: Source[] }

export type FromWorker =
  | { type: 'ready'; shared?: SharedModule }
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
  post(message: ToWorker, transfer?: ArrayBuffer[]): void
  listen(on_message: (message: FromWorker) => void, on_failure: (error: Error) => void): void
  terminate(): Promise<void>
  /** Keeps the process alive while a call is under way, and lets it end otherwise. Nothing to do in a browser. */
  ref?(): void
  unref?(): void
}

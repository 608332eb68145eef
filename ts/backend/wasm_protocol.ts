/** The messages between the facade and the worker that runs the WASM module. Calls are answered in order. */

import type { OperationName, Source, WireTensor } from './contract.js'

/** Where the module comes from. All absent: the file that lies beside the worker. */
export interface WasmOrigin {
  url?: string
  binary?: Uint8Array
  module?: WebAssembly.Module
}

export type ToWorker =
  | { type: 'init'; origin: WasmOrigin }
  | { type: 'call'; id: number; name: OperationName; request: string; tensors: WireTensor[]; sources: Source[] }

export type FromWorker =
  | { type: 'ready' }
  /** The module could not be started; `message` is the JSON of `WireError`. */
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

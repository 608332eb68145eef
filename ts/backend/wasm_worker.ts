/** The browser's worker: the WASM module, behind the protocol. Started by the browser entry; no blob, no eval. */

import type { Source } from './contract.js'
import { start_wasm_instance } from './wasm_instance.js'
import type { FromWorker, ToWorker, WasmOrigin } from './wasm_protocol.js'
import { type OpenSource, serve } from './wasm_serve.js'

interface WorkerScope {
  postMessage(message: FromWorker, transfer: Transferable[]): void
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null
}

declare const FileReaderSync: { new (): { readAsArrayBuffer(blob: Blob): ArrayBuffer } }

const scope = globalThis as unknown as WorkerScope

function source_of({ url, binary, module }: WasmOrigin): string | URL | BufferSource | WebAssembly.Module {
  return module ?? (binary as BufferSource | undefined) ?? url ?? new URL('./switch_transformers.wasm', import.meta.url)
}

function open({ name, blob }: Source): OpenSource {
  if (blob === undefined) throw new Error(`${name} has no blob to read from`)
  const reader = new FileReaderSync()
  return {
    read: (offset, into) =>
      into.set(new Uint8Array(reader.readAsArrayBuffer(blob.slice(offset, offset + into.length)))),
    close: () => {},
  }
}

const handle = serve({
  post: (message, transfer) => scope.postMessage(message, transfer),
  load: (origin) => start_wasm_instance(source_of(origin)),
  open,
})

scope.onmessage = (event) => handle(event.data)

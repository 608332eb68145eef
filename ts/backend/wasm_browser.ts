/** What the module needs of a browser, in a worker or in the page itself. */

import type { Source } from './contract.js'
import type { WasmOrigin } from './wasm_protocol.js'
import { open_ranges } from './wasm_ranges.js'
import type { OpenSource } from './wasm_serve.js'

/** There in workers only. */
declare const FileReaderSync: { new (): { readAsArrayBuffer(blob: Blob): ArrayBuffer } } | undefined

/** Written out one by one: bundlers find the files by these very expressions. */
const FILES = {
  simd: () => new URL('./switch_transformers.wasm', import.meta.url),
  threads: () => new URL('./switch_transformers_threads.wasm', import.meta.url),
  relaxed: () => new URL('./switch_transformers_relaxed.wasm', import.meta.url),
}

export async function compile_in_browser({
  artefact = 'simd',
  url,
  binary,
  module,
}: WasmOrigin): Promise<WebAssembly.Module> {
  if (module !== undefined) return module
  if (binary !== undefined) return WebAssembly.compile(binary as BufferSource)
  const from = url ?? FILES[artefact]()
  const response = await fetch(from)
  if (!response.ok) throw new Error(`${String(from)} answered ${response.status}`)
  // Streaming refuses answers of another type, which servers that do not know .wasm give.
  const is_wasm = /^application\/wasm\b/.test(response.headers.get('content-type') ?? '')
  return is_wasm ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer())
}

/** What is read comes through an array of its own, which is kept small. */
const READ_BYTES = 2 ** 20

export function open_in_browser({ name, size, blob, address }: Source): OpenSource {
  if (address !== undefined) return open_ranges(name, size, address)
  if (blob === undefined) throw new Error('it has no blob to read from')
  if (typeof FileReaderSync === 'undefined') throw new Error(`${name} can be read in workers only`)
  const reader = new FileReaderSync()
  return {
    read(offset, into) {
      for (let at = 0; at < into.length; at += READ_BYTES) {
        const end = Math.min(at + READ_BYTES, into.length)
        into.set(new Uint8Array(reader.readAsArrayBuffer(blob.slice(offset + at, offset + end))), at)
      }
    },
    close: () => {},
  }
}

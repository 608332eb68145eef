import type { WasmArtefact } from '../../ts/backend/wasm_artefact.js'

declare module 'vitest' {
  interface ProvidedContext {
    /** Which form of the WASM module a browser runs; set per instance in vitest.config.ts. */
    artefact: WasmArtefact
  }
}

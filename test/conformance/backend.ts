import { inject } from 'vitest'

declare module 'vitest' {
  interface ProvidedContext {
    /** Which binding the conformance suite runs on; set per project in vitest.config.ts. */
    backend: 'native' | 'wasm'
  }
}

/** The binding under test. */
export const backend: 'native' | 'wasm' = inject('backend')

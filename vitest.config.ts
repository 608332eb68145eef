import { defineConfig } from 'vitest/config'

/** The conformance suite is one set of files, run once per backend (see test/conformance/backend.ts). */
const conformance = (backend: 'native' | 'wasm') => ({
  extends: true as const,
  test: {
    name: backend === 'native' ? 'node' : 'wasm',
    include: ['test/conformance/**/*.test.ts'],
    provide: { backend },
  },
})

export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // The suites share two cores with the kernels' own threads: more workers than that only get in each other's way.
    maxWorkers: 2,
    projects: [
      conformance('native'),
      conformance('wasm'),
      { extends: true, test: { name: 'node-only', include: ['test/node/**/*.test.ts'] } },
      {
        extends: true,
        test: {
          name: 'packaging',
          include: ['test/packaging/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
    ],
  },
})

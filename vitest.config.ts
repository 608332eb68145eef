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

/** What measures time or memory: run last and one at a time, since the other suites would be measured too. */
const measuring = ['test/node/event_loop.test.ts', 'test/node/dispose_memory.test.ts', 'test/node/abort_leaks.test.ts']

export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // The suites share two cores with the kernels' own threads: more workers than that only get in each other's way.
    maxWorkers: 2,
    projects: [
      conformance('native'),
      conformance('wasm'),
      { extends: true, test: { name: 'node-only', include: ['test/node/**/*.test.ts'], exclude: measuring } },
      {
        extends: true,
        test: { name: 'measuring', include: measuring, maxWorkers: 1, sequence: { groupOrder: 1 } },
      },
      {
        extends: true,
        test: {
          name: 'packaging',
          include: ['test/packaging/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
})

import { fileURLToPath } from 'node:url'
import { playwright } from '@vitest/browser-playwright'
import { defineConfig } from 'vitest/config'
import { chromium_options } from './test/browser/chromium.js'
import { hub_commands } from './test/browser/hub_commands.js'

/** The conformance suite is one set of files, run once per backend (see test/conformance/backend.ts). */
const conformance = (backend: 'native' | 'wasm') => ({
  extends: true as const,
  test: {
    name: backend === 'native' ? 'node' : 'wasm',
    include: ['test/conformance/**/*.test.ts'],
    provide: { backend },
  },
})

/** What the suites need in a browser: the same cases on each form of the module, in an isolated page, or threads are refused. */
const browser = {
  extends: true as const,
  resolve: {
    alias: [{ find: /^\.\/host\.js$/, replacement: fileURLToPath(new URL('test/browser/host.ts', import.meta.url)) }],
  },
  server: {
    headers: { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' },
  },
  test: {
    name: 'browser',
    include: ['test/conformance/**/*.test.ts', 'test/browser/**/*.test.ts'],
    provide: { backend: 'wasm' as const },
    fileParallelism: false,
    sequence: { groupOrder: 3 },
    browser: {
      enabled: true,
      headless: true,
      screenshotFailures: false,
      provider: playwright({ launchOptions: chromium_options }),
      commands: hub_commands,
      instances: (['simd', 'threads', 'relaxed'] as const).map((artefact) => ({
        browser: 'chromium' as const,
        name: artefact,
        provide: { artefact },
      })),
    },
  },
}

/** What measures time or memory: run last and one at a time, since the other suites would be measured too. */
const measuring = [
  'test/node/event_loop.test.ts',
  'test/node/dispose_memory.test.ts',
  'test/node/abort_leaks.test.ts',
  'test/node/browser_memory.test.ts',
]

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
          // Each file packs, and the folder that platform packages are laid out in is one.
          maxWorkers: 1,
          include: ['test/packaging/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          sequence: { groupOrder: 2 },
        },
      },
      browser,
      // Driven from Node, and with frames to count: after the others.
      { extends: true, test: { name: 'demo', include: ['test/demo/**/*.test.ts'], sequence: { groupOrder: 4 } } },
    ],
  },
})

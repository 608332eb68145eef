/** `npm run bench:facade`: what users call; one file at a time, since they would time each other. */

import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    root: import.meta.dirname,
    benchmark: { include: ['*.bench.ts'] },
    fileParallelism: false,
  },
})

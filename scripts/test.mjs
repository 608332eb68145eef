/** `npm test`: sets up, then everything that CI checks, in the order in which it fails fastest. */

import { setup } from './setup.mjs'
import { main, run, run_tool, say } from './steps.mjs'

await main(async () => {
  await setup()
  say('lint, format and types')
  run_tool('@biomejs/biome/bin/biome', ['check', '.'])
  run_tool('typescript/bin/tsc', ['--noEmit'])
  run('cargo', ['fmt', '--all', '--check'])
  // The release profile throughout, so that crates are built once for the addon, the lint and the tests.
  run('cargo', ['clippy', '--release', '--workspace', '--all-targets', '--', '-D', 'warnings'])
  say('Rust tests')
  run('cargo', ['test', '--release', '--workspace', '--quiet'])
  say('TypeScript tests')
  run_tool('vitest/vitest.mjs', ['run', ...process.argv.slice(2)])
})

/** `npm test`: sets up, then everything that CI checks, in the order in which it fails fastest. */

import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { require_chromium } from './chromium.mjs'
import { host_target } from './rust.mjs'
import { setup } from './setup.mjs'
import { main, root, run, run_tool, say } from './steps.mjs'

const REPORT = '.setup/vitest.json'

/** Runs the TypeScript tests and closes with one plain line that says how many there were. */
function vitest(args) {
  const report = join(root, REPORT)
  rmSync(report, { force: true })
  try {
    run_tool('vitest/vitest.mjs', [
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${REPORT}`,
      ...args,
    ])
  } finally {
    if (existsSync(report)) {
      const { numPassedTests, numFailedTests, numPendingTests } = JSON.parse(readFileSync(report, 'utf8'))
      console.log(`${numPassedTests} passed, ${numFailedTests} failed, ${numPendingTests} skipped`)
    }
  }
}

await main(async () => {
  await setup()
  require_chromium()
  say('lint, format and types')
  run_tool('@biomejs/biome/bin/biome', ['check', '.'])
  run_tool('typescript/bin/tsc', ['--noEmit'])
  run('cargo', ['fmt', '--all', '--check'])
  // The addon's profile, target and features throughout, so that its dependencies are built once for the addon and the
  // tests. (The WASM binding would turn on features of its own; it is linted by itself.)
  const alike = ['--release', '--target', host_target(), '--workspace', '--exclude', 'switch-wasm']
  run('cargo', ['clippy', ...alike, '--all-targets', '--', '-D', 'warnings'])
  run('cargo', ['clippy', '--release', '--target', host_target(), '-p', 'switch-wasm', '--', '-D', 'warnings'])
  // No input may end the process: library code (not its tests) has no way to panic on purpose.
  const forbidden = ['unwrap_used', 'expect_used', 'panic', 'todo', 'unimplemented', 'unreachable']
  run('cargo', ['clippy', ...alike, '--lib', '--', ...forbidden.flatMap((lint) => ['-D', `clippy::${lint}`])])
  say('Rust tests')
  run('cargo', ['test', ...alike, '--quiet'])
  say('TypeScript tests')
  vitest(process.argv.slice(2))
})

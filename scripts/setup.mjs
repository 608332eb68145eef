/**
 * Installs and builds what is missing or out of date: npm packages, native addon, WASM module, TypeScript bundles. The
 * three forms of the WASM module take most of the time; `{ wasm: false }` does without where they are not there already.
 */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { main, root, run, StepError, step } from './steps.mjs'

const OLDEST_NODE = [20, 19]

export async function setup({ wasm = true } = {}) {
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
    throw new StepError(`Node ${process.versions.node} is too old: ${OLDEST_NODE.join('.')} or later is needed`)
  }
  await step('npm packages', { inputs: ['package-lock.json'], outputs: ['node_modules/.package-lock.json'] }, () => {
    // Beside packages that are there already, changing only what differs. The lock file stays as it is: npm would drop
    // other platforms' binaries from it.
    if (existsSync(join(root, 'node_modules/.package-lock.json')))
      run('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'])
    else run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'])
  })
  // Imported late: they need the packages.
  const { build_native } = await import('./build_native.mjs')
  const { build_wasm, is_wasm_built } = await import('./build_wasm.mjs')
  await build_native()
  if (wasm) await build_wasm()
  const { build_command_line, build_ts } = await import('./build_ts.mjs')
  await (wasm || is_wasm_built() ? build_ts() : build_command_line())
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(() => setup())

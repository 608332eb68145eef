/** What every script needs: run a command, and do a step only when what it is made from has changed. */

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))
const records = join(root, '.setup')

export function say(text) {
  console.log(`• ${text}`)
}

export class StepError extends Error {}

/** Runs a script's `main`; a failed step ends it with its message, not a stack. */
export async function main(work) {
  try {
    await work()
  } catch (error) {
    if (!(error instanceof StepError)) throw error
    console.error(`✖ ${error.message}`)
    process.exit(1)
  }
}

/** Runs a command in the repository's root with its output shown; throws when it fails. */
export function run(command, args, { env = {}, hint = '' } = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } })
  if (result.status === 0) return
  const line = [command, ...args].join(' ')
  const why = result.error ? result.error.message : `exit code ${result.status ?? result.signal}`
  throw new StepError(`${line}: ${why}${hint && `\n  ${hint}`}`)
}

/** What a command prints on standard output, or null when it fails or does not exist. */
export function output(command, args, env = {}) {
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8', env: { ...process.env, ...env } })
  return result.status === 0 ? result.stdout.trim() : null
}

/** Runs a tool of node_modules with this Node. */
export function run_tool(path, args, options) {
  run(process.execPath, [join(root, 'node_modules', path), ...args], options)
}

function* files_under(path) {
  const full = join(root, path)
  if (!existsSync(full)) return
  if (statSync(full).isFile()) {
    yield path
    return
  }
  for (const name of readdirSync(full).sort()) {
    if (name === 'node_modules' || name === 'target' || name.startsWith('.')) continue
    yield* files_under(join(path, name))
  }
}

function fingerprint(inputs, ignore, extra) {
  const hash = createHash('sha256').update(extra)
  for (const input of inputs) {
    for (const path of files_under(input)) {
      if (ignore?.test(path)) continue
      hash.update(`\0${path}\0`).update(readFileSync(join(root, path)))
    }
  }
  return hash.digest('hex')
}

/** Whether a step has something to do: see {@link step}. */
export function is_stale(name, { inputs, ignore, extra = '', outputs }, now = fingerprint(inputs, ignore, extra)) {
  const record = join(records, name)
  const done = existsSync(record) && readFileSync(record, 'utf8') === now
  return !done || outputs.some((path) => !existsSync(join(root, path)))
}

/**
 * Does `work` unless `outputs` exist and the contents of `inputs` (files and folders, from the root; without what
 * `ignore` matches) and `extra` are those of the last time that it succeeded. Returns whether it worked.
 */
export async function step(name, made, work) {
  const { inputs, ignore, extra = '', outputs } = made
  const now = fingerprint(inputs, ignore, extra)
  if (!is_stale(name, made, now)) return false
  const start = Date.now()
  await work()
  const missing = outputs.find((path) => !existsSync(join(root, path)))
  if (missing !== undefined) throw new StepError(`${name} did not make ${missing}`)
  mkdirSync(records, { recursive: true })
  writeFileSync(join(records, name), now)
  say(`${name}: done in ${((Date.now() - start) / 1000).toFixed(0)} s`)
  return true
}

/**
 * Kills a training at random moments (SIGKILL), resumes it each time, and compares the finished weights with those of a
 * run that nobody disturbed: they must be the same, bit for bit.
 *
 *   node benches/training/kill.mjs [--kills 20] [--steps 60] [--json]
 */

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '20' },
    steps: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean' },
  },
})
const cli = fileURLToPath(new URL('../../dist/cli.js', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'kill-'))

/** A small generator, so that a failure can be repeated. */
let state = Number(values.seed)
function random() {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return state / 2 ** 32
}

const words = ['alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta', 'eta', 'theta']
const rows = Array.from({ length: 400 }, () => {
  const row = Array.from({ length: 1 + Math.floor(random() * 3) }, () => words[Math.floor(random() * words.length)])
  return `${row.join(' ')}\t${[...row].reverse().join(' ')}\n`
})
const data = join(folder, 'pairs.tsv')
writeFileSync(data, rows.join(''))

/** Runs the command, killed after `kill_ms` where that is given. Gives its exit code, null when it was killed. */
function train(out, kill_ms) {
  const args = ['train', '--data', data, '--out', out, '--config', 'tiny', '--resume', '--max-steps', values.steps]
  args.push(
    '--save-steps',
    '3',
    '--save-total-limit',
    '2',
    '--logging-steps',
    '5',
    '--per-device-train-batch-size',
    '8',
  )
  args.push('--gradient-accumulation-steps', '2', '--eval-data', data, '--eval-steps', '30')
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [cli, ...args], {
      env: { ...process.env, SWITCH_NUM_THREADS: '1' },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let errors = ''
    child.stderr.on('data', (chunk) => {
      errors += chunk
    })
    const timer = kill_ms === undefined ? undefined : setTimeout(() => child.kill('SIGKILL'), kill_ms)
    child.on('error', reject)
    child.on('close', (code) => {
      clearTimeout(timer)
      if (code !== null && code !== 0) reject(new Error(errors))
      else resolve(code)
    })
  })
}

const digest = (file) => createHash('sha256').update(readFileSync(file)).digest('hex')
const log_of = (out) =>
  readFileSync(join(out, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
    .filter(({ type }) => type !== 'end')
    .map(({ step, loss, eval_loss }) => [step, loss, eval_loss])

try {
  const undisturbed = join(folder, 'undisturbed')
  const start = performance.now()
  await train(undisturbed)
  const whole_ms = performance.now() - start
  const killed = join(folder, 'killed')
  const compare = () => ({
    weights: digest(join(undisturbed, 'model.safetensors')) === digest(join(killed, 'model.safetensors')),
    log: JSON.stringify(log_of(undisturbed)) === JSON.stringify(log_of(killed)),
    leftovers: readdirSync(killed).filter((name) => name.endsWith('.tmp')),
  })
  const runs = []
  let kills = 0
  const kills_of_run = []
  while (kills < Number(values.kills)) {
    // Late enough that it has begun to train, and anywhere from there on.
    const after_ms = Math.round(whole_ms * (0.1 + 0.25 * random()))
    if ((await train(killed, after_ms)) === null) {
      kills += 1
      kills_of_run.push({
        after_ms,
        checkpoints: readdirSync(killed).filter((name) => name.startsWith('checkpoint-')),
        interrupted_writes: readdirSync(killed).filter((name) => name.endsWith('.tmp')).length,
      })
      if (kills < Number(values.kills)) continue
      await train(killed)
    }
    runs.push({ kills: kills_of_run.splice(0), ...compare() })
    rmSync(killed, { recursive: true, force: true })
  }
  const same_weights = runs.every(({ weights }) => weights)
  const same_log = runs.every(({ log }) => log)
  const leftovers = runs.flatMap((run) => run.leftovers)
  const result = { kills, runs: runs.length, same_weights, same_log, leftovers, whole_ms: Math.round(whole_ms) }
  console.log(values.json ? JSON.stringify({ ...result, runs }, null, 1) : result)
  process.exitCode = same_weights && same_log && leftovers.length === 0 ? 0 : 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}

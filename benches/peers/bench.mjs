/**
 * `npm run bench:peers`: ours and PyTorch `transformers` in one run on one machine, with ratios and fractions of what the
 * machine can do. Prints a table and writes it to benches/results/.
 *
 *   --dtype float32,bfloat16   which precisions
 *   --case TEXT                only cases whose name contains it
 *   --runs N                   rounds per case (default 5); each side takes its turn in every round
 *   --threads N                of each side and of the machine's measurement (default: all cores)
 *   --cpu-time                 processor time in place of time that passed: with --threads 1, figures that other
 *                              work on the machine hardly changes
 *   --no-compile               leave torch.compile out
 *   --compile-limit S          give a compiled case up after that many seconds of warming up (default 300)
 *   --name NAME                benches/results/NAME.md (default peers); --no-write prints only
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { CASES } from './cases.mjs'
import {
  checkpoint,
  measure_machine,
  peers_python,
  read_config,
  require_build,
  root,
  thread_variables,
} from './environment.mjs'
import { report } from './report.mjs'
import { compiled_case, time_case } from './timing.mjs'
import { show_distance, verify } from './verify.mjs'
import { Worker } from './worker.mjs'

const { values: options } = parseArgs({
  options: {
    dtype: { type: 'string', default: 'float32,bfloat16' },
    case: { type: 'string', default: '' },
    threads: { type: 'string' },
    'cpu-time': { type: 'boolean', default: false },
    runs: { type: 'string', default: '5' },
    'no-compile': { type: 'boolean', default: false },
    'compile-limit': { type: 'string', default: '300' },
    name: { type: 'string', default: 'peers' },
    'no-write': { type: 'boolean', default: false },
  },
})

require_build()
const python = peers_python()
const say = (text) => console.error(text)
const plain = (text) => text.replaceAll('×', 'x')
const cases = CASES.filter(({ name }) => plain(name).includes(plain(options.case)))
const scratch = mkdtempSync(join(tmpdir(), 'switch-transformers-compare-'))
const env = options.threads === undefined ? {} : thread_variables(options.threads)
const script = (name) => [join(root, 'benches/peers', name)]
const ours_worker = () => new Worker('ours', process.execPath, script('ours_worker.mjs'), { env })
const peer_worker = (name) => new Worker(name, python, script('transformers_worker.py'), { env })

say('Measuring the machine…')
const before = measure_machine(options.threads)
const load = loadavg()[0]
const results = []
const versions = {}

for (const dtype of options.dtype.split(',')) {
  const folder = checkpoint('base-8', dtype)
  const config = read_config(folder)
  const narrow = dtype !== 'float32'
  const ours = ours_worker()
  const eager = peer_worker('transformers, eager')
  const compiled = options['no-compile'] ? null : peer_worker('transformers, compiled')
  const workers = [ours, eager, compiled].filter(Boolean)
  say(`Loading base-8 in ${dtype}…`)
  versions.ours = await ours.ask({ op: 'load', folder, dtype })
  versions.peer = await eager.ask({ op: 'load', folder, dtype, mode: 'eager' })
  await compiled?.ask({ op: 'load', folder, dtype, mode: 'compiled' })

  // In bfloat16 the reference is float32 arithmetic on the same weights; it is gone before anything is timed.
  const verified = new Map()
  const reference = narrow ? peer_worker('reference') : eager
  if (narrow) await reference.ask({ op: 'load', folder, dtype: 'float32', mode: 'eager' })
  for (const item of cases) {
    const checked = await verify(item, { ours, peer: eager, reference, narrow, folder: scratch })
    verified.set(item, checked)
    say(`${dtype}, ${item.name}: ${show_distance(checked.ours)}${checked.note ? ` (${checked.note})` : ''}`)
  }
  if (narrow) await reference.close()

  for (const item of cases) {
    const checked = verified.get(item)
    const result = { dtype, item, config, checked }
    results.push(result)
    if (checked.seed === undefined) continue
    const sides = { ours, eager }
    if (compiled) {
      result.compile = await compiled_case(compiled, item, checked.seed, Number(options['compile-limit']))
      if (result.compile.ready) sides.compiled = compiled
    }
    result.times = await time_case(sides, item, checked.seed, Number(options.runs), options['cpu-time'] ? 'cpu' : 'ms')
    say(`${dtype}, ${item.name}: ${JSON.stringify(result.times.medians)}`)
  }
  await Promise.all(workers.map((worker) => worker.close()))
}
rmSync(scratch, { recursive: true, force: true })

// The machine may have been shared during one of the two measurements: the higher figures are nearer to what it can do.
const after = measure_machine(options.threads)
const machine = Object.fromEntries(Object.entries(before).map(([key, value]) => [key, Math.max(value, after[key])]))
report({ results, machine, versions, load, options })

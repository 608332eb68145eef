/**
 * `npm run bench:peers`: ours and the peers in one run on one machine, with ratios and fractions of what the machine can do.
 * Prints tables and writes them to benches/results/.
 *
 *   --compare transformers,quantised,dense   which comparisons (see comparisons.mjs)
 *   --dtype float32,int8       which precisions (default: all of a comparison)
 *   --case TEXT                only cases whose name contains it
 *   --runs N                   rounds per case (default 5); each side takes its turn in every round
 *   --threads N                of each side and of the machine's measurement (default: all cores)
 *   --cpu-time                 processor time in place of time that passed: with --threads 1, figures that other
 *                              work on the machine hardly changes (transformers only)
 *   --turn COMMAND             on a shared machine: a program that runs another one while the machine is quiet; all
 *                              that is timed is timed in such turns, some cases or a measurement of limits each (turn.mjs)
 *   --without compiled,candle  leave peers out
 *   --compile-limit S          give a compiled case up after that many seconds of warming up (default 600)
 *   --merge                    keep what earlier runs of the same name measured, where this one does not measure it
 *   --report                   measure nothing, print what was measured
 *   --name NAME                benches/results/NAME.md (default peers); --no-write prints only
 *
 * PYTHON names an interpreter that has torch, transformers 5.18.0, onnxruntime, onnx, onnxscript and ctranslate2; without it
 * one is made. candle's T5 (benches/peers/candle_t5) and the checkpoints are built when they are first needed.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { CASES } from './cases.mjs'
import { compare } from './compare.mjs'
import { COMPARISONS } from './comparisons.mjs'
import { fail, measure_machine, peers_python, RUNTIMES, require_build, thread_variables } from './environment.mjs'
import { report } from './report.mjs'
import { Store } from './store.mjs'
import { Turns } from './turn.mjs'

const { values: options } = parseArgs({
  options: {
    compare: { type: 'string' },
    dtype: { type: 'string' },
    case: { type: 'string', default: '' },
    threads: { type: 'string' },
    'cpu-time': { type: 'boolean', default: false },
    turn: { type: 'string' },
    runs: { type: 'string', default: '5' },
    without: { type: 'string', default: '' },
    'compile-limit': { type: 'string', default: '600' },
    merge: { type: 'boolean', default: false },
    report: { type: 'boolean', default: false },
    name: { type: 'string', default: 'peers' },
    'no-write': { type: 'boolean', default: false },
  },
})

const plain = (text) => text.replaceAll('×', 'x')
const cases = CASES.filter(({ name }) => plain(name).includes(plain(options.case)))
const listed = (text, name) => text === undefined || text.split(',').includes(name)
const unknown = options.compare?.split(',').find((name) => !COMPARISONS.some((comparison) => comparison.name === name))
if (unknown !== undefined)
  fail(`--compare: found ${unknown}, expected ${COMPARISONS.map(({ name }) => name).join(', ')}`)

const store = new Store(options.name, options.merge || options.report)
if (!options.report) {
  require_build()
  const python = peers_python(RUNTIMES)
  const folder = mkdtempSync(join(tmpdir(), 'switch-transformers-compare-'))
  const env = options.threads === undefined ? {} : thread_variables(options.threads)
  const turns = new Turns(options.turn)
  const measure_limits = async (key) => {
    console.error('Measuring the machine…')
    const limits = await turns.run([], () => measure_machine(options.threads))
    await turns.release()
    store.put(key, { limits, load: loadavg()[0] })
  }
  await measure_limits('limits before')
  for (const comparison of COMPARISONS.filter(({ name }) => listed(options.compare, name))) {
    for (const dtype of comparison.dtypes.filter((name) => listed(options.dtype, name))) {
      const peers = comparison.peers.filter((name) => !options.without.split(',').includes(name))
      await compare({ ...comparison, peers, dtype, cases, python, env, folder, options, store, turns })
    }
  }
  // The machine may have been shared during one of the two measurements: the higher figures are nearer to what it can do.
  await measure_limits('limits after')
  rmSync(folder, { recursive: true, force: true })
}
report(store, options)

/**
 * `npm run bench:training`: a training step (forward, backward, clipping, AdamW) of ours and of PyTorch `transformers` in
 * turns on one machine, with peak memory. Dropout and jitter are off on both sides, so that losses can be compared: a
 * side whose losses over the steps do not follow the other's is not timed.
 *
 *   --case TEXT      only cases whose name contains it
 *   --steps N        steps per case (default 6; the first warms up)
 *   --threads N      of each side (default: all cores)
 *   --cpu-time       processor time in place of time that passed
 *   --name NAME      benches/results/NAME.md (default training_step); --no-write prints only
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  checkpoint,
  describe_machine,
  peers_python,
  require_build,
  root,
  thread_variables,
} from '../peers/environment.mjs'
import { median } from '../peers/statistics.mjs'
import { Worker } from '../peers/worker.mjs'

const { values: options } = parseArgs({
  options: {
    case: { type: 'string', default: '' },
    steps: { type: 'string', default: '6' },
    threads: { type: 'string' },
    'cpu-time': { type: 'boolean', default: false },
    name: { type: 'string', default: 'training_step' },
    'no-write': { type: 'boolean', default: false },
  },
})

/**
 * The first loss must agree this closely, later ones, after updates, this closely: a randomly initialised base-8 magnifies
 * rounding (both sides' gradients are about 6e-4 of themselves away from float64's).
 */
const FIRST_TOLERANCE = 1e-5
const TOLERANCE = 2e-2

const CASES = [
  {
    name: 'g2p, 256 x 10 to 10 tokens',
    folder: join(root, 'ts/assets/g2p'),
    rows: 256,
    source: 10,
    target: 10,
    bar: 1.5,
  },
  { name: 'base-8, 8 x 128 to 32 tokens', size: 'base-8', rows: 8, source: 128, target: 32, bar: 1.5 },
  { name: 'base-8, 8 x 128 to 128 tokens', size: 'base-8', rows: 8, source: 128, target: 128, bar: 1.5 },
]

require_build()
const python = peers_python()
const env = options.threads === undefined ? {} : thread_variables(options.threads)
const time = options['cpu-time'] ? 'cpu' : 'ms'
const lines = []

for (const { name, size, folder = checkpoint(size, 'float32'), rows, source, target, bar } of CASES) {
  if (!name.includes(options.case)) continue
  const request = { op: 'train', folder, rows, source, target, steps: Number(options.steps) }
  const results = {}
  // One after the other: two of base-8 with their optimisers' state are 20 GB.
  for (const [side, command, script] of [
    ['ours', process.execPath, 'step_worker.mjs'],
    ['transformers', python, 'step_worker.py'],
  ]) {
    console.error(`${name}: ${side}`)
    const worker = new Worker(side, command, [join(root, 'benches/training', script)], { env })
    results[side] = await worker.ask(request, { limit_s: 1800 })
    await worker.close()
  }
  const { ours, transformers: peer } = results
  const off = ours.losses.findIndex(
    (loss, i) => Math.abs(loss - peer.losses[i]) > (i === 0 ? FIRST_TOLERANCE : TOLERANCE) * loss,
  )
  if (off >= 0) {
    lines.push(
      `| ${name} | not timed: loss of step ${off} is ${ours.losses[off]}, the peer's ${peer.losses[off]} | | | | | |`,
    )
    continue
  }
  const [a, b] = [ours, peer].map((side) => median(side.times.slice(1).map((t) => t[time])))
  const memory = (side) => (side.peak_bytes / 2 ** 30).toFixed(2)
  const ratio = b / a
  lines.push(
    `| ${name} | ${a.toFixed(0)} | ${b.toFixed(0)} | ${ratio.toFixed(2)} | ${bar} ${ratio >= bar ? 'met' : 'missed'} | ` +
      `${memory(ours)} / ${memory(peer)} | ${(ours.peak_bytes / peer.peak_bytes).toFixed(2)} |`,
  )
}

const text = `# A training step against PyTorch \`transformers\`

${describe_machine()}, load ${loadavg()[0].toFixed(1)}${options.threads ? `, ${options.threads} thread(s) each` : ''}.
float32, AdamW, gradients clipped to 1, dropout and jitter off, medians of ${Number(options.steps) - 1} steps, milliseconds of
${options['cpu-time'] ? 'processor time' : 'time that passed'}. First losses agree within ${FIRST_TOLERANCE}, later ones within ${TOLERANCE}. Peak memory of the whole process.

| case | ours, ms | transformers, ms | ratio | bar | peak GiB, ours / theirs | ratio (bar 1.0) |
|---|---|---|---|---|---|---|
${lines.join('\n')}

Command: \`node benches/training/step_speed.mjs ${process.argv.slice(2).join(' ')}\`
`
console.log(text)
if (!options['no-write']) {
  const results = join(root, 'benches/results')
  mkdirSync(results, { recursive: true })
  writeFileSync(join(results, `${options.name}.md`), text)
}

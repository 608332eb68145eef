/**
 * The WASM build's arithmetic in one thread in Node, encoding 1×512 tokens of base-8: `npm run bench:wasm
 * [-- --dtype float32] [--artefact simd] [--runs 3]`. GFLOP/s count two for each multiply-add of the matrix products.
 *
 * Bars, in float32: 25 GFLOP/s, and 0.7 of the multiply-add peak measured in the same engine.
 */

import { parseArgs } from 'node:util'
import { env, SwitchTransformersEncoderModel } from 'switch-transformers'
import { checkpoint, describe_machine, read_config, require_build } from '../peers/environment.mjs'
import { median, some_ids } from '../peers/statistics.mjs'
import { encode_flop } from '../peers/work.mjs'
import { wasm_peak } from './wasm_peak.mjs'

const BAR = 25
const ROWS = 1
const TOKENS = 512

const { values: options } = parseArgs({
  options: {
    dtype: { type: 'string', default: 'float32' },
    artefact: { type: 'string', default: 'simd' },
    runs: { type: 'string', default: '3' },
  },
})

require_build()
const folder = checkpoint('base-8', options.dtype)
Object.assign(env.wasm, { artefact: options.artefact, threads: 1 })
const load = (backend) => SwitchTransformersEncoderModel.from_pretrained(folder, { dtype: options.dtype, backend })
const input_ids = some_ids(ROWS, TOKENS)

// Only what agrees with the native build, which is compared with the reference elsewhere, is timed.
const native = await load('native')
const expected = (await native.forward({ input_ids })).last_hidden_state.data
await native.dispose()
const model = await load('wasm')
const found = (await model.forward({ input_ids })).last_hidden_state.data
const square = found.reduce((sum, value, i) => sum + (value - expected[i]) ** 2, 0)
const error = Math.sqrt(square / expected.reduce((sum, value) => sum + value ** 2, 0))
if (!(error <= 1e-4)) throw new Error(`relative error ${error} against the native build: not timed`)

const clocks = []
for (let run = 0; run < Number(options.runs); run++) {
  const start = performance.now()
  const usage = process.cpuUsage()
  await model.forward({ input_ids })
  const { user, system } = process.cpuUsage(usage)
  clocks.push({ ms: performance.now() - start, cpu: (user + system) / 1000 })
}
const flop = encode_flop(read_config(folder), ROWS, TOKENS)
const rate = (pick) => flop / median(clocks.map(pick)) / 1e6
const wall = rate(({ ms }) => ms)
const cpu = rate(({ cpu }) => cpu)
const peak = await wasm_peak()
console.log(`${describe_machine()}, Node ${process.versions.node}; base-8 ${options.dtype}, WASM (${options.artefact}), one thread, ${(flop / 1e9).toFixed(0)} GFLOP
relative error against native ${error.toExponential(1)}
${wall.toFixed(1)} GFLOP/s of time that passed, ${cpu.toFixed(1)} of processor time (bar ${BAR}: ${Math.max(wall, cpu) >= BAR ? 'met' : 'MISSED'})
peak of SIMD128 ${peak.toFixed(1)} GFLOP/s: ${(Math.max(wall, cpu) / peak).toFixed(2)} of it (bar 0.7)`)
process.exit(0)

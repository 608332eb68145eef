/**
 * `npm run bench:cuda`: on a machine with an NVIDIA GPU, verifies first and then measures; writes benches/results/cuda.md
 * with each bar beside what was seen. Where there is no GPU it says so and writes nothing.
 *
 *   --size base-8[,base-64…]   which sizes (default base-8)
 *   --runs N                   rounds per case (default 5)
 *   --peak TFLOPS              the card's dense bfloat16 peak, and
 *   --bandwidth GB/S           its memory's bandwidth, for cards that the table below does not have
 *   --no-peers                 leave PyTorch `transformers` out (else PYTHON, or an environment made once)
 *   --rounds N                 generations for the memory bar (default 10000)
 */

import { execFileSync, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  checkpoint,
  describe_machine,
  fail,
  peers_python,
  read_config,
  require_build,
  root,
} from '../peers/environment.mjs'
import { some_ids } from '../peers/statistics.mjs'
import { CARDS } from './cards.mjs'

const { values: options } = parseArgs({
  options: {
    size: { type: 'string', default: 'base-8' },
    runs: { type: 'string', default: '5' },
    peak: { type: 'string' },
    bandwidth: { type: 'string' },
    rounds: { type: 'string', default: '10000' },
    'no-peers': { type: 'boolean', default: false },
  },
})

require_build()
// What is timed rounds inputs as the reference does; what is verified is the default. Read when the first model is made.
process.env.SWITCH_CUDA_ARITHMETIC ??= 'half'
const { SwitchTransformersEncoderModel, SwitchTransformersForConditionalGeneration: Model } = await import(
  'switch-transformers'
)

/** What the addon says of CUDA here; ends the script where there is no GPU. */
async function require_gpu() {
  const tiny = { vocab_size: 8, d_model: 8, d_kv: 4, d_ff: 8, num_heads: 2, num_layers: 1, num_decoder_layers: 1 }
  try {
    const model = await Model.from_config({ ...tiny, num_experts: 2 }, { device: 'cuda' })
    await model.dispose()
  } catch (error) {
    console.log(`Nothing was measured. ${error.message}`)
    process.exit(0)
  }
}

function card() {
  const query = ['--query-gpu=name,driver_version,memory.total', '--format=csv,noheader']
  const [name, driver, memory] = execFileSync('nvidia-smi', query, { encoding: 'utf8' }).split('\n')[0].split(', ')
  const known = CARDS.find(({ match }) => match.test(name))
  const peak = Number(options.peak ?? known?.bf16_tflops)
  const bandwidth = Number(options.bandwidth ?? known?.gb_per_s)
  if (!peak || !bandwidth) fail(`${name} is not in benches/cuda/cards.mjs: give --peak and --bandwidth`)
  return { name, driver, memory, peak, bandwidth }
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]

/** Median milliseconds of `work`, after one round that is not counted. */
async function time(work) {
  await work()
  const times = []
  for (let i = 0; i < Number(options.runs); i++) {
    const start = performance.now()
    await work()
    times.push(performance.now() - start)
  }
  return median(times)
}

/** Multiply-adds of the encoder per token, times two: projections, one expert or dense layer, attention over `length` keys. */
function encoder_flops(config, length) {
  const inner = config.num_heads * config.d_kv
  const layer = 4 * config.d_model * inner + 2 * config.d_model * config.d_ff + 2 * length * inner
  return 2 * config.num_layers * layer
}

const rows = []
function bar(what, seen, wanted, met) {
  rows.push({ what, seen, wanted, met })
  console.log(`${met ? 'met ' : 'NOT '} ${what}: ${seen} (wanted: ${wanted})`)
}

function verify() {
  const cli = join(root, 'dist/cli.js')
  const folders = join(root, 'test/fixtures/parity')
  const run = (...more) =>
    spawnSync(process.execPath, [cli, 'verify', '--device', 'cuda', ...more, folders], {
      encoding: 'utf8',
      env: { ...process.env, SWITCH_CUDA_ARITHMETIC: 'auto' },
    })
  const exact = run('--tolerance', '1e-5')
  bar(
    'verify, float32',
    exact.status === 0 ? 'passes' : `fails\n${exact.stdout}`,
    '1e-5, same sequences',
    exact.status === 0,
  )
  const half = run('--dtype', 'bfloat16', '--tolerance', '2e-2')
  bar('verify, bfloat16', half.status === 0 ? 'passes' : `fails\n${half.stdout}`, '2e-2', half.status === 0)
  if (exact.status !== 0) fail('Nothing is timed before results match.')
}

async function measure(size, gpu) {
  const folder = checkpoint(size, 'bfloat16')
  const config = read_config(folder)
  const encoder = await SwitchTransformersEncoderModel.from_pretrained(folder, { device: 'cuda' })
  const input_ids = some_ids(32, 512, 1)
  const encode = await time(() => encoder.forward({ input_ids }))
  await encoder.dispose()
  const share = (encoder_flops(config, 512) * 32 * 512) / (encode / 1000) / (gpu.peak * 1e12)
  bar(
    `${size}: encode 32 × 512`,
    `${encode.toFixed(1)} ms, ${(share * 100).toFixed(0)} % of peak`,
    '60 % of peak',
    share >= 0.6,
  )

  const model = await Model.from_pretrained(folder, { device: 'cuda' })
  const steps = 64
  const generate = (batch, tokens) =>
    model.generate({ input_ids: some_ids(batch, 64, 2), max_new_tokens: tokens, min_new_tokens: tokens })
  const step = async (batch) => {
    const [few, many] = [await time(() => generate(batch, 1)), await time(() => generate(batch, steps + 1))]
    return (many - few) / steps
  }
  const one = await step(1)
  const active = model.num_parameters({ active: true }) * 2
  const bandwidth = active / (one / 1000) / (gpu.bandwidth * 1e9)
  bar(
    `${size}: decode, batch 1`,
    `${one.toFixed(2)} ms, ${(bandwidth * 100).toFixed(0)} % of bandwidth`,
    '60 %',
    bandwidth >= 0.6,
  )
  const rate = 64 / ((await step(64)) / 1000)
  bar(`${size}: decode, batch 64`, `${rate.toFixed(0)} tokens/s`, '6000 tokens/s', rate >= 6000)
  return { folder, model, encode, one }
}

/** The peer on the same card, eager and compiled, in the same run. */
function peers(folder, ours) {
  const python = peers_python()
  for (const mode of ['eager', 'compiled']) {
    const script = join(root, 'benches/cuda/transformers_cuda.py')
    const { status, stdout, stderr } = spawnSync(python, [script, folder, mode, options.runs], { encoding: 'utf8' })
    if (status !== 0) {
      bar(`PyTorch transformers, ${mode}`, `could not be run: ${stderr.trim().split('\n').at(-1)}`, 'to be run', false)
      continue
    }
    const theirs = JSON.parse(stdout)
    const [encode, decode] = [theirs.encode_ms / ours.encode, theirs.step_ms / ours.one]
    bar(`encode against PyTorch, ${mode}`, `${encode.toFixed(2)} ×`, '2 ×', encode >= 2)
    bar(`decode against PyTorch, ${mode}`, `${decode.toFixed(2)} ×`, '5 ×', decode >= 5)
  }
}

const used_memory = () =>
  Number(
    execFileSync('nvidia-smi', ['--query-gpu=memory.used', '--format=csv,noheader,nounits'], {
      encoding: 'utf8',
    }).split('\n')[0],
  )

async function flat_memory(folder, model) {
  const small = () => model.generate({ input_ids: some_ids(1, 16, 3), max_new_tokens: 4 })
  for (let i = 0; i < 20; i++) await small()
  const before = used_memory()
  for (let i = 0; i < Number(options.rounds); i++) await small()
  await model.dispose()
  for (let i = 0; i < 100; i++) {
    const again = await Model.from_pretrained(folder, { device: 'cuda' })
    await again.generate({ input_ids: some_ids(1, 16, 3), max_new_tokens: 2 })
    await again.dispose()
  }
  const grown = used_memory() - before
  bar(
    `device memory after ${options.rounds} generations and 100 loads`,
    `${grown} MiB more`,
    'flat (64 MiB)',
    grown <= 64,
  )
}

await require_gpu()
const gpu = card()
verify()
const encodes = new Map()
for (const size of options.size.split(',')) {
  const measured = await measure(size, gpu)
  encodes.set(size, measured.encode)
  if (!options['no-peers']) peers(measured.folder, measured)
  await flat_memory(measured.folder, measured.model)
}
if (encodes.has('base-8') && encodes.has('base-256')) {
  const ratio = encodes.get('base-256') / encodes.get('base-8')
  bar('256 experts against 8, encoding', `${ratio.toFixed(2)} ×`, 'at most 1.1 ×', ratio <= 1.1)
}
const lines = rows.map(
  ({ what, seen, wanted, met }) => `| ${what} | ${seen.split('\n')[0]} | ${wanted} | ${met ? 'met' : 'not met'} |`,
)
const report = `# CUDA

${gpu.name}, ${gpu.memory}, driver ${gpu.driver}; peak ${gpu.peak} TFLOP/s in bfloat16, ${gpu.bandwidth} GB/s. ${describe_machine()}.
Medians of ${options.runs} rounds. Not measured here: training, which runs on the CPU; compute-sanitizer.

| what | seen | bar | |
|---|---|---|---|
${lines.join('\n')}
`
writeFileSync(join(root, 'benches/results/cuda.md'), report)
console.log(`\n${report}`)

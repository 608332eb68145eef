/**
 * The WASM module in Node and in Chromium, each of its forms, with one thread and two: `node
 * benches/facade/browser_speed.mjs [--runs 5]
 * [--engine node|chromium] [--only "simd 1,relaxed 2"]`. Prints a table in Markdown.
 *
 * A model of base-8's dimensions with two layers in each stack, one of them sparse, float32, random weights: encoding
 * 1 × 512 tokens, and decoding at batch 1. Limits are measured in the same engine and run, in one thread: SIMD128's
 * multiply-add from registers, and reads of memory. Bars: prefill 0.65 of the first, decoding 0.6 of the second counting
 * each active weight once, relaxed SIMD 1.4 times SIMD128, two threads 1.7 times one.
 */

import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { cpus, loadavg } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { chromium } from 'playwright-core'
import * as library from 'switch-transformers'
import { decode_bytes, encode_flop } from '../peers/work.mjs'
import { PEAK_FLOP, peak_module } from './wasm_peak.mjs'
import { READ_BYTES, read_module } from './wasm_read.mjs'

const { values: options } = parseArgs({
  options: {
    runs: { type: 'string', default: '5' },
    engine: { type: 'string', default: '' },
    only: { type: 'string', default: '' },
  },
})
const RUNS = Number(options.runs)
const TOKENS = 512
const CONFIG = {
  vocab_size: 32_128,
  d_model: 768,
  d_kv: 64,
  d_ff: 3072,
  num_heads: 12,
  num_layers: 2,
  num_decoder_layers: 2,
  num_sparse_encoder_layers: 1,
  num_sparse_decoder_layers: 1,
  encoder_sparse_step: 2,
  decoder_sparse_step: 2,
  num_experts: 8,
  decoder_start_token_id: 0,
}
const CASES = [
  { artefact: 'simd', threads: 1 },
  { artefact: 'threads', threads: 1 },
  { artefact: 'threads', threads: 2 },
  { artefact: 'relaxed', threads: 1 },
  { artefact: 'relaxed', threads: 2 },
].filter(({ artefact, threads }) => options.only === '' || options.only.split(',').includes(`${artefact} ${threads}`))

/** Runs in either engine: text, so that a page can be given it. Milliseconds, the best of the runs. */
const MEASURE = `async (library, { config, artefact, threads, tokens, runs }) => {
  const { env, SwitchTransformersEncoderModel, SwitchTransformersForConditionalGeneration, terminate_backends } = library
  await terminate_backends()
  Object.assign(env.wasm, { artefact, threads })
  const best = async (run) => {
    await run()
    let least = Infinity
    for (let i = 0; i < runs; i++) {
      const start = performance.now()
      await run()
      least = Math.min(least, performance.now() - start)
    }
    return least
  }
  const input_ids = [Array.from({ length: tokens }, (_, i) => 3 + ((i * 7919) % 32000))]
  const encoder = await SwitchTransformersEncoderModel.from_config(config, { backend: 'wasm' })
  const prefill = await best(() => encoder.forward({ input_ids }))
  await encoder.dispose()
  const model = await SwitchTransformersForConditionalGeneration.from_config(config, { backend: 'wasm' })
  const generate = (steps) => () =>
    model.generate({ input_ids: [[5, 6, 7, 8]], max_new_tokens: steps, min_new_tokens: steps, eos_token_id: null })
  const decode = ((await best(generate(33))) - (await best(generate(1)))) / 32
  await model.dispose()
  await terminate_backends()
  return { prefill, decode }
}`

/** GFLOP/s and GB/s. */
const LIMITS = `async ({ peak, fused, read, peak_flop, read_bytes }) => {
  const best = async (bytes, rounds, call) => {
    const { instance } = await WebAssembly.instantiate(new Uint8Array(bytes))
    if (instance.exports.memory) new Uint8Array(instance.exports.memory.buffer).fill(1)
    let least = Infinity
    for (let round = 0; round < rounds; round++) {
      const start = performance.now()
      call(instance.exports.run)
      least = Math.min(least, performance.now() - start)
    }
    return least
  }
  const turns = 1_000_000
  const flops = async (module) => (turns * peak_flop) / (await best(module, 100, (run) => run(turns, 0.5))) / 1e6
  return {
    flops: await flops(peak),
    // Not in every engine.
    fused: await flops(fused).catch(() => 0),
    reads: read_bytes / (await best(read, 20, (run) => run())) / 1e6,
  }
}`

const limits_of = {
  peak: [...peak_module()],
  fused: [...peak_module({ is_fused: true })],
  read: [...read_module()],
  peak_flop: PEAK_FLOP,
  read_bytes: READ_BYTES,
}
const flop = encode_flop(CONFIG, 1, TOKENS)
const bytes = decode_bytes(CONFIG, 4, 1)

async function in_node() {
  const run = (text) => new Function(`return ${text}`)()
  return { measure: (request) => run(MEASURE)(library, request), limits: await run(LIMITS)(limits_of), close() {} }
}

async function in_chromium() {
  const dist = fileURLToPath(new URL('../../dist', import.meta.url))
  const server = createServer((request, response) => {
    const file = dist + new URL(request.url, 'http://localhost').pathname
    const type = /\.js$/.test(file) ? 'text/javascript' : /\.wasm$/.test(file) ? 'application/wasm' : 'text/html'
    response.writeHead(200, {
      'content-type': type,
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
    })
    response.end(existsSync(file) && /\.(js|wasm)$/.test(file) ? readFileSync(file) : '<!doctype html>')
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const browser = await chromium.launch({
    executablePath: process.env.SWITCH_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  })
  const page = await browser.newPage()
  await page.goto(`http://localhost:${server.address().port}/`)
  const call = (text, ...args) => page.evaluate(`(async () => (${text})(${args.join(', ')}))()`)
  return {
    measure: (request) => call(MEASURE, "await import('/browser.js')", JSON.stringify(request)),
    limits: await call(LIMITS, JSON.stringify(limits_of)),
    async close() {
      await browser.close()
      server.close()
    },
  }
}

console.log(`${cpus()[0].model}, ${cpus().length} cores, load ${loadavg()[0].toFixed(1)}, Node ${process.versions.node}

| engine | module | threads | prefill GFLOP/s | of limit | × simd | × 1 thread | decode ms/token | GB/s | of limit |
|---|---|---|---|---|---|---|---|---|---|`)
for (const [name, start] of [
  ['Node', in_node],
  ['Chromium', in_chromium],
]) {
  if (!name.toLowerCase().startsWith(options.engine.toLowerCase())) continue
  const engine = await start()
  const rates = {}
  for (const one of CASES) {
    const { prefill, decode } = await engine
      .measure({ config: CONFIG, tokens: TOKENS, runs: RUNS, ...one })
      .catch((error) => {
        console.log(`| ${name} | ${one.artefact} | ${one.threads} | ${error.message.split('\n')[0]} |`)
        return {}
      })
    if (prefill === undefined) continue
    const rate = flop / prefill / 1e6
    rates[`${one.artefact} ${one.threads}`] = rate
    const ratio = (other) => (rates[other] ? (rate / rates[other]).toFixed(2) : '')
    const { flops, reads } = engine.limits
    const cells = [
      ...[name, one.artefact, one.threads, rate.toFixed(1), (rate / flops).toFixed(2)],
      ...[ratio('simd 1'), ratio(`${one.artefact} 1`), decode.toFixed(2)],
      ...[(bytes / decode / 1e6).toFixed(1), (bytes / decode / 1e6 / reads).toFixed(2)],
    ]
    console.log(`| ${cells.join(' | ')} |`)
  }
  const { flops, fused, reads } = engine.limits
  const relaxed = fused > 0 ? ` (relaxed SIMD's ${fused.toFixed(1)})` : ''
  console.log(`\n${name}: multiply-add ${flops.toFixed(1)} GFLOP/s${relaxed}, reads ${reads.toFixed(1)} GB/s\n`)
  await engine.close()
}
process.exit(0)

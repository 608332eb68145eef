/**
 * `npm run bench:web-peers`: ours and onnxruntime-web in one run, in Node and in Chromium, on a dense T5 encoder of base's
 * dimensions in float32: ours without a sparse layer, the peer with the same weights exported to ONNX. Each side runs its
 * best form that the engine has. Prints a table and writes it to benches/results/browser_peers.md.
 *
 *   --runs N           rounds per case (default 5); each side takes its turn in every round
 *   --threads 1,2      how many threads, of both sides; in Node only the first, since the peer settles its threads once per
 *                      process: for others run again with --engine node --threads 2
 *   --tokens 128,512   how many tokens
 *   --engine TEXT      only the engine whose name begins so (node, chromium)
 *   --add              keep the table's other rows: for runs of one part after another
 *   --no-write         print only
 *
 * PYTHON names an interpreter with torch, transformers 5.18.0, onnx and onnxscript; what is missing is installed into a
 * folder of its own, as onnxruntime-web is.
 */

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { cache, describe_machine, peers_python, require_build, root, work_folder } from './environment.mjs'
import { median, some_ids } from './statistics.mjs'
import { in_chromium, in_node } from './web_engines.mjs'
import { encode_flop } from './work.mjs'

const ORT = '1.30.0'
const EXPORTERS = ['onnx==1.23.2', 'onnxscript==0.7.2', 'onnx_ir==1.1.0', 'ml_dtypes==0.6.0']
const BAR = 1.15
/** Relative difference up to which the two sides' results are the same. */
const MOST_DIFFERENCE = 1e-4

/**
 * base's encoder. The decoder, which is not used, is as small as can be, and so is the vocabulary, which costs no time.
 */
const CONFIG = {
  vocab_size: 2048,
  d_model: 768,
  d_kv: 64,
  d_ff: 3072,
  num_heads: 12,
  num_layers: 12,
  num_decoder_layers: 1,
  num_experts: 1,
  num_sparse_encoder_layers: 0,
  num_sparse_decoder_layers: 0,
  encoder_sparse_step: 0,
  decoder_sparse_step: 0,
}

const { values: options } = parseArgs({
  options: {
    runs: { type: 'string', default: '5' },
    threads: { type: 'string', default: '1,2' },
    tokens: { type: 'string', default: '128,512' },
    engine: { type: 'string', default: '' },
    add: { type: 'boolean', default: false },
    'no-write': { type: 'boolean', default: false },
  },
})
const numbers = (text) => text.split(',').map(Number)

/** The checkpoint and its ONNX form, made when they are not there yet. */
function models() {
  const folder = join(work_folder(), 'dense-t5-encoder')
  const checkpoint = join(folder, 'checkpoint')
  const onnx = join(folder, 'encoder.onnx')
  mkdirSync(folder, { recursive: true })
  if (!existsSync(join(checkpoint, 'config.json'))) {
    console.error(`Making a randomly initialised dense checkpoint: ${checkpoint}`)
    const file = join(folder, 'config.json')
    writeFileSync(file, JSON.stringify(CONFIG))
    const cli = join(root, 'dist/cli.js')
    execFileSync(process.execPath, [cli, 'init', checkpoint, '--config', file], { stdio: ['ignore', 2, 2] })
  }
  if (!existsSync(onnx)) {
    const python = peers_python()
    const packages = join(cache, 'exporters')
    if (!existsSync(packages)) {
      console.error(`Installing ${EXPORTERS.join(', ')} into ${packages}`)
      execFileSync(python, ['-m', 'pip', 'install', '--quiet', '--no-deps', '--target', packages, ...EXPORTERS], {
        stdio: ['ignore', 2, 2],
      })
    }
    console.error(`Exporting it to ONNX: ${onnx}`)
    execFileSync(python, [join(root, 'benches/peers/export_t5_encoder.py'), checkpoint, `${onnx}.partial`], {
      stdio: ['ignore', 2, 2],
      env: { ...process.env, PYTHONPATH: packages },
    })
    renameSync(`${onnx}.partial`, onnx)
  }
  return { checkpoint, onnx: folder }
}

function onnxruntime() {
  const folder = join(cache, `onnxruntime-web-${ORT}`)
  if (!existsSync(join(folder, 'node_modules/onnxruntime-web'))) {
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'package.json'), '{"private":true}')
    execFileSync('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', `onnxruntime-web@${ORT}`], {
      cwd: folder,
      stdio: ['ignore', 2, 2],
    })
  }
  return join(folder, 'node_modules/onnxruntime-web/dist')
}

/** Both sides, loaded with so many threads. Says what of ours runs. */
const LOAD = `async ({ library, ort, checkpoint, fetch_bytes }, { threads }) => {
  const { env, SwitchTransformersEncoderModel, terminate_backends } = library
  await globalThis.ours?.dispose()
  await globalThis.peer?.release()
  await terminate_backends()
  // One thread, or the best form would have as many as there are.
  Object.assign(env.wasm, { threads })
  globalThis.ours = await SwitchTransformersEncoderModel.from_pretrained(checkpoint, { backend: 'wasm' })
  const { isa, threads: found } = (await globalThis.ours.handle.backend.call('describe', {})).reply
  ort.env.wasm.numThreads = threads
  globalThis.peer = await ort.InferenceSession.create(await fetch_bytes('encoder.onnx'), {
    executionProviders: ['wasm'],
    graphOptimizationLevel: 'all',
  })
  return { isa, threads: found }
}`

/** Runs both on the same ids: the relative difference, and milliseconds of each round. */
const COMPARE = `async ({ ort }, { ids, runs, limit }) => {
  const input_ids = new ort.Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length])
  const sides = {
    ours: async () => (await globalThis.ours.forward({ input_ids: [ids] })).last_hidden_state.data,
    peer: async () => (await globalThis.peer.run({ input_ids })).last_hidden_state.data,
  }
  const [found, expected] = [await sides.ours(), await sides.peer()]
  let square = 0
  let norm = 0
  for (let i = 0; i < expected.length; i++) {
    square += (found[i] - expected[i]) ** 2
    norm += expected[i] ** 2
  }
  const difference = found.length === expected.length ? Math.sqrt(square / norm) : Infinity
  // Only what agrees is timed.
  if (!(difference <= limit)) return { difference }
  const rounds = []
  for (let round = 0; round < runs; round++) {
    const times = {}
    for (const name of round % 2 === 0 ? ['ours', 'peer'] : ['peer', 'ours']) {
      // The other side's threads go to sleep first.
      await new Promise((resolve) => setTimeout(resolve, 100))
      const start = performance.now()
      await sides[name]()
      times[name] = performance.now() - start
    }
    rounds.push(times)
  }
  return { difference, rounds }
}`

require_build()
const folders = { ...models(), ort: onnxruntime() }
const load = loadavg()[0]
const rows = []
for (const start of [in_node, in_chromium]) {
  if (!start.name.startsWith(`in_${options.engine.toLowerCase()}`)) continue
  const wanted = numbers(options.threads)
  for (const threads of start === in_node ? wanted.slice(0, 1) : wanted) {
    // An engine of its own for each: the peer settles its threads once.
    const engine = await start(folders)
    const ours = await engine.call(LOAD, { threads })
    for (const tokens of numbers(options.tokens)) {
      const [ids] = some_ids(1, tokens, 1, CONFIG.vocab_size)
      const request = { ids, runs: Number(options.runs), limit: MOST_DIFFERENCE }
      const { difference, rounds } = await engine.call(COMPARE, request)
      const head = [engine.name, ours.isa, ours.threads, tokens]
      if (rounds === undefined) {
        rows.push([...head, '–', '–', '–', '–', `${difference.toExponential(1)}: not timed`])
        continue
      }
      const of = (pick) => median(rounds.map(pick))
      const rate = (name) => (tokens / of((times) => times[name])) * 1000
      const ratio = of((times) => times.peer / times.ours)
      const flops = (encode_flop(CONFIG, 1, tokens) / of(({ ours }) => ours) / 1e6).toFixed(1)
      const verdict = `${ratio.toFixed(2)} (bar ${BAR}${ratio >= BAR ? '' : ', missed'})`
      rows.push([
        ...head,
        rate('ours').toFixed(0),
        flops,
        rate('peer').toFixed(0),
        verdict,
        difference.toExponential(1),
      ])
      console.error(rows.at(-1).join(' | '))
    }
    await engine.close()
  }
}

const head = [
  'engine',
  'ours',
  'threads',
  'tokens',
  'ours, tokens/s',
  'GFLOP/s',
  'onnxruntime-web, tokens/s',
  'ratio',
  'difference',
]
const file = join(root, 'benches/results/browser_peers.md')
/** The same engine, form, threads and tokens. */
const is_same = (a, b) => a.slice(0, 4).every((cell, i) => String(cell) === String(b[i]))
if (options.add && existsSync(file)) {
  const kept = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => /^\| (Node|Chromium) /.test(line))
  const cells = kept.map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
  rows.unshift(...cells.filter((row) => !rows.some((other) => is_same(row, other))))
}
const table = [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
const flags = process.argv.slice(2)
const text = `# Ours and onnxruntime-web, a dense T5 encoder of base's dimensions

${table}

Machine: ${describe_machine()}. Load average when it began: ${load.toFixed(1)}${load > 0.7 ? '. The machine was shared while measuring: rates are too low, and ratios of two threads depend on who waited.' : '.'}
onnxruntime-web ${ORT}, its WASM backend (SIMD; with threads where there are two), all graph optimisations.
Command: \`npm run bench:web-peers${flags.length > 0 ? ` -- ${flags.join(' ')}` : ''}\`, ${new Date().toISOString().slice(0, 10)}.

1 × so many tokens, float32, the same random weights on both sides (a vocabulary of 2,048, which costs no time). Rates and ratios are medians of ${options.runs} rounds, in each of
which both sides take one turn in an alternating order; the ratio is the peer's time divided by ours. A time is taken only
where the results differ by less than ${MOST_DIFFERENCE} (relative, in the norm).
`
console.log(text)
if (!options['no-write']) writeFileSync(file, text)
process.exit(0)

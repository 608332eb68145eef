/**
 * Fine-tunes the embedded model in headless Chromium on 20 words that it pronounces otherwise than asked, until it gets at
 * least 18 of them right, and says how long that took and how long the page was not responsive at most.
 *
 *   node benches/training/in_browser.mjs [--isolated] [--artefact simd] [--json]
 *
 * `--isolated`: in a page that may use threads.
 */

import { createReadStream } from 'node:fs'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { chromium } from 'playwright-core'

const { values } = parseArgs({
  options: {
    isolated: { type: 'boolean' },
    /** The form of the WASM module; default: the best that the browser runs. */
    artefact: { type: 'string', default: 'auto' },
    json: { type: 'boolean' },
  },
})
const root = fileURLToPath(new URL('../../', import.meta.url))
const TYPES = {
  '.js': 'text/javascript',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
  '.html': 'text/html',
}

const server = createServer((request, response) => {
  const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname))
  const headers = {
    'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
    ...(values.isolated && {
      'cross-origin-opener-policy': 'same-origin',
      'cross-origin-embedder-policy': 'require-corp',
    }),
  }
  if (path === '/') {
    response.writeHead(200, { ...headers, 'content-type': 'text/html' })
    response.end('<!doctype html><title>training</title><link rel="icon" href="data:,">')
    return
  }
  const file = createReadStream(join(root, path))
  file.on('open', () => response.writeHead(200, headers))
  file.on('error', () => response.writeHead(404).end())
  file.pipe(response)
})
await new Promise((resolve) => server.listen(0, resolve))

/** Runs in the page. */
async function fine_tune(artefact) {
  const { AutoTokenizer, env, SwitchTransformersForConditionalGeneration, Trainer } = await import('/dist/browser.js')
  env.wasm.worker_url = '/dist/wasm_worker.js'
  env.wasm.artefact = artefact
  const WORDS = {
    ghibli: 'JH IH1 B L IY0',
    gnocchi: 'N Y OW1 K IY0',
    quinoa: 'K IY1 N W AA0',
    worcester: 'W UH1 S T ER0',
    acai: 'AA0 S AA0 IY1',
    siobhan: 'SH IH0 V AO1 N',
    niamh: 'N IY1 V',
    xavi: 'CH AA1 V IY0',
    pho: 'F AH1',
    gyro: 'Y IH1 R OW0',
    nguyen: 'W IH1 N',
    hermione: 'HH ER0 M AY1 AH0 N IY0',
    saoirse: 'S ER1 SH AH0',
    edinburgh: 'EH1 D IH0 N B R AH0',
    leicester: 'L EH1 S T ER0',
    bourgeois: 'B UH1 R ZH W AA2',
    yosemite: 'Y OW0 S EH1 M AH0 T IY0',
    kubernetes: 'K UW2 B ER0 N EH1 T IY0 Z',
    nginx: 'EH1 N JH AH0 N EH2 K S',
    sqlite: 'S IY1 K W AH0 L AY2 T',
    huawei: 'W AA1 W EY2',
    xiaomi: 'SH AW1 M IY0',
    porsche: 'P AO1 R SH AH0',
    hyundai: 'HH AH1 N D EY0',
    nietzsche: 'N IY1 CH AH0',
    goethe: 'G ER1 T AH0',
    chthonic: 'TH AA1 N IH0 K',
    phlegm: 'F L EH1 M',
    colonel: 'K ER1 N AH0 L',
    boatswain: 'B OW1 S AH0 N',
  }
  // How long a frame's callback came late: what a user would feel.
  let longest = 0
  let previous = performance.now()
  let watching = true
  const watch = () => {
    const now = performance.now()
    longest = Math.max(longest, now - previous)
    previous = now
    if (watching) setTimeout(watch, 10)
  }
  const tokenizer = await AutoTokenizer.from_pretrained('/ts/assets/g2p')
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained('/ts/assets/g2p')
  const words = Object.entries(WORDS)
  const answers = async (list) => {
    const ids = await model.generate({ ...tokenizer(list, { padding: true }), max_new_tokens: 40 })
    return tokenizer.batch_decode(ids, { skip_special_tokens: true })
  }
  const given = await answers(words.map(([word]) => word))
  const wrong = words.filter(([, phonemes], i) => given[i] !== phonemes).slice(0, 20)
  const start = performance.now()
  previous = start
  watch()
  let right = 0
  const pairs = wrong.map(([source, target]) => ({ source, target }))
  const trainer = new Trainer({
    model,
    tokenizer,
    train_dataset: pairs,
    eval_dataset: pairs,
    args: {
      max_steps: 200,
      per_device_train_batch_size: 20,
      learning_rate: 1e-3,
      lr_scheduler_type: 'constant_with_warmup',
      warmup_steps: 5,
      dropout_rate: 0,
      eval_steps: 5,
      predict_with_generate: true,
      metrics: ['exact_match'],
    },
    callbacks: [
      {
        on_evaluate: ({ eval_exact_match }, { control }) => {
          right = Math.round(eval_exact_match * pairs.length)
          if (right >= 18) control.should_training_stop = true
        },
      },
    ],
  })
  const { global_step } = await trainer.train()
  const seconds = (performance.now() - start) / 1000
  watching = false
  await trainer.dispose()
  await model.dispose()
  return { wrong_before: wrong.length, right_after: right, steps: global_step, seconds, longest_block_ms: longest }
}

const browser = await chromium.launch({
  executablePath: process.env.SWITCH_CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox'],
})
try {
  const page = await browser.newPage()
  page.on('pageerror', (error) => console.error(String(error)))
  await page.goto(`http://localhost:${server.address().port}/`)
  const result = { isolated: values.isolated === true, ...(await page.evaluate(fine_tune, values.artefact)) }
  console.log(values.json ? JSON.stringify(result) : result)
  process.exitCode = result.wrong_before === 20 && result.right_after >= 18 && result.seconds < 120 ? 0 : 1
} finally {
  await browser.close()
  server.close()
}

/** What loading a large checkpoint takes in a page, measured from outside: the resident memory of the page's process. */

import { readFileSync, rmSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SwitchTransformersForConditionalGeneration } from '../../ts/entry/node.js'
import { type Served, serve_folder, start_browser } from '../packaging/pages.js'

const root = join(import.meta.dirname, '../..')
const MB = 1e6
/** About 300 MB in float32, half of it in experts. */
const CONFIG = {
  vocab_size: 32_128,
  d_model: 512,
  d_kv: 64,
  d_ff: 2048,
  num_heads: 8,
  num_layers: 4,
  num_decoder_layers: 4,
  num_sparse_encoder_layers: 1,
  num_sparse_decoder_layers: 1,
  num_experts: 8,
}

/** A worker is ended when it has been idle for a moment; Chromium gives threads that wait two seconds to leave by themselves. */
const SETTLE_MS = { simd: 500, threads: 3000, relaxed: 3000 } as const
const ARTEFACTS = ['simd', 'threads', 'relaxed'] as const

let folder: string
let weights: number
let browser: Browser | undefined
let server: Served
let page: Page

beforeAll(async () => {
  // Beside the bundle, so that one server has both.
  folder = await mkdtemp(join(root, 'dist/.memory-'))
  weights = (await save_model(CONFIG, folder)).bytes
  const headers = {
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-embedder-policy': 'require-corp',
  }
  server = await serve_folder(join(root, 'dist'), headers, true)
})

const PROMPT = [[5, 6, 7, 1]]
const OPTIONS = { max_new_tokens: 4, no_repeat_ngram_size: 1, decoder_start_token_id: 0 }

/** Saves a randomly initialised model in float32: how large it is, and what it goes on with. */
async function save_model(config: typeof CONFIG, to: string): Promise<{ bytes: number; ids: number[] }> {
  const model = await SwitchTransformersForConditionalGeneration.from_config(config as never, { backend: 'native' })
  await model.save_pretrained(to)
  const { data } = await model.generate({ input_ids: PROMPT, ...OPTIONS })
  const bytes = model.num_parameters() * 4
  await model.dispose()
  return { bytes, ids: [...data].map(Number) }
}

/** A browser of its own for each form: what one leaves behind must not count as another's. */
async function open_page(artefact: (typeof ARTEFACTS)[number]): Promise<void> {
  await browser?.close()
  browser = await start_browser()
  page = await browser.newPage()
  await page.goto(new URL('assets/g2p/config.json', server.url).href)
  await page.evaluate(`globalThis.library = import('/browser.js').then((library) => {
    library.env.wasm.artefact = '${artefact}'
    return library
  })`)
}

afterAll(async () => {
  await browser?.close()
  server?.close()
  if (folder) rmSync(folder, { recursive: true, force: true })
})

/** Processes of pages: this one's, its workers included, and perhaps one in reserve. */
async function page_processes(): Promise<number[]> {
  const session = await (browser as Browser).newBrowserCDPSession()
  const { processInfo } = await session.send('SystemInfo.getProcessInfo')
  await session.detach()
  return processInfo.filter(({ type }) => type === 'renderer').map(({ id }) => id)
}

function memory(id: number, field: 'VmRSS' | 'VmHWM'): number {
  const line = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${id}/status`, 'utf8'))
  return Number(line?.[1]) * 1024
}

/** Loads in the page what is under an address, generates a little, and frees it. */
const use = (path: string) =>
  page.evaluate(
    `globalThis.library.then(async ({ SwitchTransformersForConditionalGeneration: Model }) => {
      const model = await Model.from_pretrained('${path}')
      const { data } = await model.generate({ input_ids: ${JSON.stringify(PROMPT)}, ...${JSON.stringify(OPTIONS)} })
      await model.dispose()
      return [...data].map(Number)
    })`,
  )

const LOADING = 'loading 300 MB by %s takes less than 1.25 times as much, and ten rounds leave nothing behind'

test.each(ARTEFACTS)(
  LOADING,
  async (artefact) => {
    await open_page(artefact)
    expect(weights).toBeGreaterThan(280 * MB)
    await use('/assets/g2p/')
    const path = `/${folder.split('/').at(-1)}/`
    const resident = new Map((await page_processes()).map((id) => [id, memory(id, 'VmRSS')]))
    await use(path)
    const [process, before] = [...resident].sort(([a], [b]) => memory(b, 'VmHWM') - memory(a, 'VmHWM'))[0] as [
      number,
      number,
    ]
    const first = memory(process, 'VmHWM') - before
    console.log(
      `${artefact}: weights ${(weights / MB).toFixed(0)} MB, at most ${(first / MB).toFixed(0)} MB: ${(first / weights).toFixed(2)}`,
    )
    expect(first).toBeLessThan(1.25 * weights)
    for (let round = 1; round < 10; round++) {
      await page.waitForTimeout(SETTLE_MS[artefact])
      await use(path)
    }
    await page.waitForTimeout(SETTLE_MS[artefact])
    const most = memory(process, 'VmHWM') - before
    const left = memory(process, 'VmRSS') - before
    console.log(
      `${artefact}, after ten rounds: at most ${(most / MB).toFixed(0)} MB, ${(left / MB).toFixed(0)} MB left`,
    )
    // Garbage of one round may be collected in the next only.
    expect(most).toBeLessThan(1.5 * weights)
    expect(left).toBeLessThan(0.25 * weights)
  },
  180_000,
)

test('the page goes on while a model is loaded and generates', async () => {
  const path = `/${folder.split('/').at(-1)}/`
  await page.evaluate(`{
    let last = performance.now()
    globalThis.longest = 0
    globalThis.ticks = setInterval(() => {
      const now = performance.now()
      globalThis.longest = Math.max(globalThis.longest, now - last)
      last = now
    }, 4)
  }`)
  await use(path)
  const longest = (await page.evaluate('clearInterval(globalThis.ticks), globalThis.longest')) as number
  console.log(`the page was held up for ${longest.toFixed(0)} ms at most`)
  expect(longest).toBeLessThan(250)
}, 60_000)

test('more than Chromium holds in blobs is read in parts', async () => {
  const large = await mkdtemp(join(root, 'dist/.memory-'))
  try {
    const { bytes, ids } = await save_model({ ...CONFIG, num_experts: 24 }, large)
    expect(bytes).toBeGreaterThan(550 * MB)
    await open_page('simd')
    server.requests.length = 0
    const path = `/${large.split('/').at(-1)}/`
    expect(await use(path)).toEqual(ids)
    // More often than once whole.
    expect(server.requests.filter((each) => each.endsWith('model.safetensors')).length).toBeGreaterThan(100)
  } finally {
    rmSync(large, { recursive: true, force: true })
  }
}, 180_000)

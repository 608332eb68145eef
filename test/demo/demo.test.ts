/** The demo page, as a visitor uses it: served by its command, in Debian's Chromium. */

import { type Browser, type BrowserContextOptions, chromium, type Locator, type Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AutoTokenizer, SwitchTransformersForConditionalGeneration } from '../../ts/entry/node.js'
import { embedded_model_path } from '../../ts/inspect/embedded.js'
import { chromium_options } from '../browser/chromium.js'
import { contrast_of_texts } from './contrast.js'
import { type DemoServer, serve } from './server.js'

let server: DemoServer
let browser: Browser

beforeAll(async () => {
  server = await serve('--port', '0')
  browser = await chromium.launch(chromium_options)
})

afterAll(async () => {
  await browser?.close()
  await server?.stop()
})

/** Runs `visit` on the page once it has pronounced the word that it opens with, and fails when it logged an error. */
async function with_page(visit: (page: Page) => Promise<void>, options: BrowserContextOptions = {}): Promise<void> {
  const context = await browser.newContext(options)
  try {
    const page = await context.newPage()
    const problems: string[] = []
    page.on('pageerror', (error) => problems.push(String(error)))
    page.on('console', (message) => {
      if (/error|warning/.test(message.type())) problems.push(`${message.text()} ${message.location().url}`)
    })
    await page.goto(server.url)
    await finished(page, 'switch')
    await visit(page)
    expect(problems).toEqual([])
  } finally {
    await context.close()
  }
}

async function finished(page: Page, word: string): Promise<void> {
  await page.getByRole('status').getByText(`“${word}”:`).waitFor({ timeout: 45_000 })
}

async function pronounce(page: Page, word: string): Promise<string | null> {
  await page.getByLabel('Word').fill(word)
  await page.getByLabel('Word').press('Enter')
  await finished(page, word)
  return page.locator('output').textContent()
}

function grid(page: Page, stack: 'encoder' | 'decoder'): Locator {
  return page.getByRole('grid', { name: stack })
}

/** Per row of a stack's grid, its header and what its cells show. */
async function cells_of(page: Page, stack: 'encoder' | 'decoder'): Promise<string[][]> {
  const rows = grid(page, stack)
    .getByRole('row')
    .filter({ has: page.getByRole('gridcell') })
  return rows.evaluateAll((all) => all.map((row) => [...row.children].map((cell) => cell.textContent)))
}

/** Per expert, then dropped, the counts of each layer. */
async function loads_of(page: Page, stack: 'encoder' | 'decoder'): Promise<number[][]> {
  const rows = page.getByRole('table', { name: `${stack}: tokens per expert` }).locator('tbody tr')
  return rows.evaluateAll((all) =>
    all.map((row) => [...row.querySelectorAll('td')].map((cell) => Number(cell.textContent))),
  )
}

/** What the library says in Node: per stack and token, the expert of each sparse layer. */
async function native_routes(word: string, expert_capacity: number) {
  const folder = embedded_model_path()
  const tokenizer = await AutoTokenizer.from_pretrained(folder)
  const trained = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend: 'native' })
  const config = { ...trained.config.to_dict(), expert_capacity }
  await trained.dispose()
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend: 'native', config })
  const options = { output_routes: true, return_dict_in_generate: true } as const
  const { sequences, encoder_routes, decoder_routes } = await model.generate({ ...tokenizer(word), ...options })
  await model.dispose()
  const per_token = (layers: { tolist(): unknown }[] = []) => {
    const experts = layers.map((layer) => (layer.tolist() as number[][])[0] as number[])
    return (experts[0] ?? []).map((_, token) => experts.map((of_layer) => of_layer[token] as number))
  }
  const [text] = tokenizer.batch_decode(sequences, { skip_special_tokens: true })
  return { text, encoder: per_token(encoder_routes), decoder: per_token(decoder_routes) }
}

function shown(routes: number[][]): string[][] {
  return routes.map((experts) => experts.map((expert) => (expert === -1 ? '×' : String(expert))))
}

/** Tokens per expert (the last: dropped) and layer. */
function counted(routes: number[][]): number[][] {
  return [0, 1, 2, 3, 4, 5, 6, 7, -1].map((expert) =>
    [0, 1].map((layer) => routes.filter((experts) => experts[layer] === expert).length),
  )
}

describe('the demo page', () => {
  it('is isolated from other origins, so that the library may use threads', () =>
    with_page(async (page) => {
      expect(await page.evaluate(() => crossOriginIsolated)).toBe(true)
    }))

  it('pronounces a word and shows the experts that Node names for it', () =>
    with_page(async (page) => {
      const native = await native_routes('hello', 64)
      expect(native.text).toBe('HH EH1 L OW0')
      expect(await pronounce(page, 'hello')).toBe(native.text)

      const encoder = await cells_of(page, 'encoder')
      expect(encoder.map(([head]) => head)).toEqual(['h', 'e', 'l', 'l', 'o', 'end'])
      expect(encoder.map(([, ...cells]) => cells)).toEqual(shown(native.encoder))
      const decoder = await cells_of(page, 'decoder')
      expect(decoder.map(([head]) => head)).toEqual(['start → HH', 'HH → EH1', 'EH1 → L', 'L → OW0', 'OW0 → end'])
      expect(decoder.map(([, ...cells]) => cells)).toEqual(shown(native.decoder))
      for (const stack of ['encoder', 'decoder'] as const) {
        expect(await loads_of(page, stack)).toEqual(counted(native[stack]))
        expect(await grid(page, stack).getByRole('columnheader').allTextContents()).toContain('layer 3')
      }
    }))

  it('shows tokens that find no room', () =>
    with_page(async (page) => {
      await page.getByLabel('Room per expert').selectOption('1')
      await finished(page, 'switch')
      await pronounce(page, 'hello')
      const native = await native_routes('hello', 1)
      const dropped = native.encoder.flat().filter((expert) => expert === -1).length
      expect(dropped).toBeGreaterThan(0)
      expect((await cells_of(page, 'encoder')).map(([, ...cells]) => cells)).toEqual(shown(native.encoder))
      expect(await loads_of(page, 'encoder')).toEqual(counted(native.encoder))
      expect(await page.locator('#status').textContent()).toContain(`tokens were dropped ${dropped} times`)
      const cell = grid(page, 'encoder').getByRole('gridcell', { name: 'dropped' }).first()
      await cell.hover()
      expect(await page.getByRole('tooltip').textContent()).toMatch(/was dropped.*room for 1 token and was full/)
      expect(await cell.evaluate((node) => getComputedStyle(node).borderStyle)).toBe('dashed')
    }))

  it('adds each sound when it is there', () =>
    with_page(async (page) => {
      await page.getByLabel('Slow motion').check()
      await page.evaluate(() => {
        const output = document.querySelector('output') as HTMLElement
        const seen: unknown[] = []
        Object.assign(window, { seen })
        new MutationObserver(() => {
          seen.push([output.textContent, document.querySelectorAll('#decoder [role=gridcell]').length])
        }).observe(output, { childList: true })
      })
      await pronounce(page, 'hello')
      // The texts so far, with two layers' cells for each.
      expect(await page.evaluate(() => (window as unknown as { seen: unknown[] }).seen)).toEqual([
        ['', 0],
        ['HH', 2],
        ['HH EH1', 4],
        ['HH EH1 L', 6],
        ['HH EH1 L OW0', 8],
      ])
    }))

  it('leaves a word for the next one', () =>
    with_page(async (page) => {
      await page.getByLabel('Slow motion').check()
      await page.getByLabel('Word').fill('interrupted')
      await page.getByLabel('Word').press('Enter')
      await page.locator('output span').first().waitFor()
      await page.getByLabel('Slow motion').uncheck()
      expect(await pronounce(page, 'hello')).toBe('HH EH1 L OW0')
      await page.waitForTimeout(600)
      expect(await page.locator('output').textContent()).toBe('HH EH1 L OW0')
      expect(await cells_of(page, 'encoder')).toHaveLength(6)
    }))

  it('goes on painting while the model works', () =>
    with_page(async (page) => {
      const gaps: number[] = []
      // Other work on the machine makes gaps too, so the best of three counts.
      for (let round = 0; round < 3 && !gaps.some((gap) => gap < 100); round++) {
        await page.evaluate(() => {
          const frames = { last: performance.now(), longest: 0, running: true }
          const tick = (now: number) => {
            frames.longest = Math.max(frames.longest, now - frames.last)
            frames.last = now
            if (frames.running) requestAnimationFrame(tick)
          }
          requestAnimationFrame(tick)
          Object.assign(window, { frames })
        })
        await pronounce(page, 'a'.repeat(80 + round))
        gaps.push(
          await page.evaluate(() => {
            const { frames } = window as unknown as { frames: { longest: number; running: boolean } }
            frames.running = false
            return frames.longest
          }),
        )
      }
      expect(Math.min(...gaps)).toBeLessThan(100)
    }))

  it('tells what went wrong, with its code, and recovers', async () => {
    const context = await browser.newContext()
    try {
      const page = await context.newPage()
      await page.route('**/model.safetensors', (route) => route.fulfill({ status: 404, body: '' }))
      await page.goto(server.url)
      await page.getByRole('alert').getByText('FILE_NOT_FOUND: ').waitFor()
      await page.unroute('**/model.safetensors')
      expect(await pronounce(page, 'hello')).toBe('HH EH1 L OW0')
      expect(await page.getByRole('alert').count()).toBe(0)

      // Another model, whose configuration is not one.
      await page.route('**/config.json', (route) => route.fulfill({ json: { num_experts: -1 } }))
      await page.getByLabel('Room per expert').selectOption('2')
      await page.getByRole('alert').getByText('INVALID_CONFIG: ').waitFor()
      await page.unroute('**/config.json')
      expect(await pronounce(page, 'again')).toBe((await native_routes('again', 2)).text)
    } finally {
      await context.close()
    }
  })
})

describe('by keyboard', () => {
  it('moves through the grid as through one stop of the Tab key, with tooltips', () =>
    with_page(async (page) => {
      await pronounce(page, 'hello')
      const tooltip = page.getByRole('tooltip')
      const focused = () =>
        page.evaluate(() => {
          const cell = document.activeElement as HTMLTableCellElement
          return [(cell.parentElement as HTMLTableRowElement).sectionRowIndex, cell.cellIndex - 1]
        })
      await page.getByRole('button', { name: 'Pronounce' }).focus()
      await page.keyboard.press('Tab')
      expect(await focused()).toEqual([0, 0])
      expect(await tooltip.textContent()).toBe('Expert 7 took “h” In encoder layer 1 it also took e, end.')
      const moves: [key: string, place: number[]][] = [
        ['ArrowUp', [0, 0]],
        ['ArrowRight', [0, 1]],
        ['ArrowRight', [0, 1]],
        ['ArrowDown', [1, 1]],
        ['Home', [1, 0]],
        ['End', [1, 1]],
        ['Control+End', [5, 1]],
        ['ArrowDown', [5, 1]],
        ['ArrowLeft', [5, 0]],
        ['PageUp', [0, 0]],
        ['PageDown', [5, 0]],
        ['Control+Home', [0, 0]],
        ['ArrowDown', [1, 0]],
      ]
      for (const [key, place] of moves) {
        await page.keyboard.press(key)
        expect([key, await focused()]).toEqual([key, place])
      }
      expect(await tooltip.textContent()).toContain('Expert 7 took “e”')
      const described = await page.evaluate(() => document.activeElement?.getAttribute('aria-describedby'))
      expect(described).toBe(await tooltip.getAttribute('id'))
      await page.keyboard.press('Escape')
      expect(await tooltip.isVisible()).toBe(false)
      expect(await focused()).toEqual([1, 0])

      await page.keyboard.press('Tab')
      expect(
        await page.evaluate(() => document.activeElement?.closest('[role=grid]')?.getAttribute('aria-label')),
      ).toBe('decoder: expert of each token')
      expect(await tooltip.textContent()).toContain('took “start”')
      await page.keyboard.press('Shift+Tab')
      expect(await focused()).toEqual([1, 0])
      const outline = await page.evaluate(() => getComputedStyle(document.activeElement as Element).outlineStyle)
      expect(outline).toBe('solid')
    }))

  it('keeps the tooltip while the pointer is on it', () =>
    with_page(async (page) => {
      const tooltip = page.getByRole('tooltip')
      await grid(page, 'encoder').getByRole('gridcell').first().hover()
      const text = await tooltip.textContent()
      await tooltip.hover()
      expect(await tooltip.textContent()).toBe(text)
      await page.getByRole('heading', { level: 1 }).hover()
      expect(await tooltip.isVisible()).toBe(false)
    }))
})

describe('for every eye and ear', () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    it(`has text that stands out from what is behind it, ${colorScheme}`, () =>
      with_page(
        async (page) => {
          await page.getByLabel('Room per expert').selectOption('1')
          await pronounce(page, 'hello')
          await grid(page, 'encoder').getByRole('gridcell').first().focus()
          const found = await contrast_of_texts(page)
          expect(found.length).toBeGreaterThan(60)
          expect(found.filter(({ ratio }) => ratio < 4.5)).toEqual([])
          // The two schemes are two, and all eight experts have a colour of their own in each.
          const fills = await page
            .locator('#encoder .swatch')
            .evaluateAll((all) => all.map((node) => getComputedStyle(node).backgroundColor))
          expect(new Set(fills).size).toBe(9)
          const page_colour = await page.evaluate(() => getComputedStyle(document.body).backgroundColor)
          expect(page_colour === 'rgb(255, 255, 255)').toBe(colorScheme === 'light')
        },
        { colorScheme },
      ))
  }

  it('names all that can be used, and has one heading, a language and live regions', () =>
    with_page(async (page) => {
      const nameless = await page.locator('input, select, button, progress, [role=grid], table').evaluateAll((all) =>
        all
          .filter((node) => {
            const labels = (node as HTMLInputElement).labels
            return !node.getAttribute('aria-label') && !labels?.length && !(node.matches('button') && node.textContent)
          })
          .map((node) => node.outerHTML.slice(0, 80)),
      )
      expect(nameless).toEqual([])
      const ids = await page.locator('[id]').evaluateAll((all) => all.map(({ id }) => id))
      expect(new Set(ids).size).toBe(ids.length)
      expect(await page.getByRole('heading', { level: 1 }).count()).toBe(1)
      expect(await page.locator('html').getAttribute('lang')).toBe('en')
      expect(await page.locator('output').getAttribute('aria-live')).toBe('polite')
      expect(await grid(page, 'encoder').getByRole('rowheader').count()).toBe(7)
      // One stop for the Tab key in each grid.
      expect(await page.locator('[role=grid] [tabindex="0"]').count()).toBe(2)
    }))

  it('fits a phone', () =>
    with_page(
      async (page) => {
        await pronounce(page, 'hello')
        expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(360)
        for (const cell of await page.getByRole('gridcell').all()) {
          const { x = -1, width = 0, height = 0 } = (await cell.boundingBox()) ?? {}
          expect(x >= 0 && x + width <= 360 && width >= 24 && height >= 24).toBe(true)
        }
        await grid(page, 'encoder').getByRole('gridcell').last().focus()
        const { x = -1, width = 0 } = (await page.getByRole('tooltip').boundingBox()) ?? {}
        expect(x >= 0 && x + width <= 360).toBe(true)
      },
      { viewport: { width: 360, height: 740 } },
    ))

  it('stands still for those who ask for it', () =>
    with_page(
      async (page) => {
        const cell = page.getByRole('gridcell').first()
        expect(await cell.evaluate((node) => getComputedStyle(node).animationName)).toBe('none')
      },
      { reducedMotion: 'reduce' },
    ))
})

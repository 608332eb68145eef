/** The examples run to their end at small size, and write models that load. */

import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SwitchTransformersForConditionalGeneration } from '../../ts/entry/node.js'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'examples-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function run(example: string, args: string[]): Promise<{ code: number | null; output: string }> {
  const script = path.join(import.meta.dirname, '../../examples/training', example)
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [script, ...args], { cwd: folder })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += String(chunk)))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, output }))
  })
}

const losses = (output: string) => [...output.matchAll(/: loss ([\d.]+)/g)].map(([, loss]) => Number(loss))

test.each([
  ['summarization.mjs', ['--config', 'tiny', '--steps', '40'], /eval_rougeL [\d.]+/],
  ['translation.mjs', ['--config', 'tiny', '--steps', '60'], /eval_bleu [\d.]+, eval_chrf [\d.]+/],
  ['spelling.mjs', ['--config', 'tiny', '--steps', '60'], /eval_exact_match [\d.]+, eval_edit_distance [\d.]+/],
  ['distillation.mjs', ['--steps', '40'], /student: \d+, of which \d+ tensors are the teacher's/],
] as const)('%s', async (example, args, printed) => {
  const out = path.join(folder, example)
  const { code, output } = await run(example, [...args, '--out', out])
  expect(output).toMatch(printed)
  expect(code).toBe(0)
  const found = losses(output)
  expect(found.at(-1)).toBeLessThan(0.85 * (found[0] as number))
  expect(readdirSync(out)).toContain('tokenizer.json')
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained(out, { backend: 'native' })
  await model.dispose()
})

test('g2p from a table, as from the dictionary', async () => {
  const data = path.join(folder, 'words.tsv')
  const letters = { a: 'AE1', b: 'B', d: 'D', e: 'EH1', g: 'G', i: 'IH1', k: 'K', m: 'M', n: 'N', o: 'AA1', t: 'T' }
  const names = Object.keys(letters) as (keyof typeof letters)[]
  const words = Array.from({ length: 300 }, (_, i) =>
    [0, 1, 2].map((j) => names[(i * (j + 3) + j * 5) % names.length] as keyof typeof letters),
  )
  writeFileSync(
    data,
    words.map((word) => `${word.join('')}\t${word.map((letter) => letters[letter]).join(' ')}\n`).join(''),
  )
  const out = path.join(folder, 'g2p')
  const { code, output } = await run('g2p/train.mjs', [
    ...[
      '--data',
      data,
      '--out',
      out,
      '--config',
      'tiny',
      '--max-steps',
      '60',
      '--batch-size',
      '32',
      '--warmup-steps',
      '10',
    ],
    ...['--test-words', '20', '--save-steps', '30'],
  ])
  expect(output).toMatch(/held-back words: phoneme error rate [\d.]+, words right [\d.]+/)
  expect(code).toBe(0)
  const found = losses(output)
  expect(found.at(-1)).toBeLessThan(0.8 * (found[0] as number))
  expect(readdirSync(out)).toContain('report.html')
})

test('the dictionary is split as that of the embedded model', async () => {
  const { load_dictionary } = await import('../../examples/training/g2p/data.mjs')
  const { train, validation, test: held_back } = await load_dictionary()
  expect([train.length, validation.length, held_back.length]).toEqual([127_080, 1185, 6319])
  expect(held_back[0]).toEqual({ source: "a's", target: ['EY1 Z'] })
})

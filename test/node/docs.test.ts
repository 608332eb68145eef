/** What README.md and docs/ show runs: every sample in TypeScript, and the commands. */

import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import * as library from '../../ts/entry/node.js'

const root = join(import.meta.dirname, '../..')
const CONFIG = {
  vocab_size: 2100,
  d_model: 16,
  d_kv: 4,
  d_ff: 32,
  num_heads: 4,
  num_layers: 2,
  num_decoder_layers: 2,
  num_sparse_encoder_layers: 1,
  num_sparse_decoder_layers: 1,
  num_experts: 4,
  decoder_start_token_id: 0,
  task_specific_params: { summarization: { prefix: 'summarize: ', max_length: 30 } },
}

interface Sample {
  /** Where it is: the file, the heading above it, and which one under that. */
  name: string
  language: string
  code: string
}

function samples_of(file: string): Sample[] {
  const found: Sample[] = []
  let heading = ''
  for (const [, title, language = '', code = ''] of readFileSync(join(root, file), 'utf8').matchAll(
    /^#+ (.+)$|^```(\w+)\n([\s\S]*?)^```$/gm,
  )) {
    if (title !== undefined) heading = title
    else {
      const place = `${file}, ${heading}`
      const number = found.filter(({ name }) => name.startsWith(place)).length + 1
      found.push({ name: `${place}, ${number}`, language, code })
    }
  }
  return found
}

const samples = ['README.md', 'docs/guide.md', 'docs/training.md'].flatMap(samples_of)
const PAIRS = [
  ['a b', 'b a'],
  ['c d', 'd c'],
] as const
let folder: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'switch-docs-'))
  const model = await library.SwitchTransformersForConditionalGeneration.from_config(CONFIG)
  await model.save_pretrained(join(folder, 'model'))
  await model.dispose()
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
    copyFileSync(join(root, 'test/fixtures/tokenizer', file), join(folder, 'model', file))
  }
  const rows = (line: (source: string, target: string) => string) => PAIRS.map(([a, b]) => line(a, b)).join('\n')
  for (const file of ['pairs.tsv', 'held-back.tsv'])
    writeFileSync(
      join(folder, file),
      rows((a, b) => `${a}\t${b}`),
    )
  await write_adapter()
  const summaries = rows((document, summary) => JSON.stringify({ document, summary }))
  writeFileSync(join(folder, 'train.jsonl'), summaries)
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** The folder that pages call my-adapter. */
async function write_adapter(): Promise<void> {
  const trainer = await make_trainer({ lora: { rank: 2 } })
  await trainer.save_model(join(folder, 'my-adapter'))
  await trainer.dispose()
  await trainer.model.dispose()
}

async function make_trainer(args: library.TrainingArguments = {}): Promise<library.Trainer> {
  const model = await library.SwitchTransformersForConditionalGeneration.from_pretrained(join(folder, 'model'))
  const tokenizer = await library.AutoTokenizer.from_pretrained(join(folder, 'model'))
  return new library.Trainer({ model, tokenizer, args })
}

/** A sample with the small model in place of published ones, as a module whose free names are those of the page. */
function module_of({ code }: Sample): string {
  const placed = code
    .replaceAll(/'(?:google\/switch-base-8|path\/or\/name)'/g, JSON.stringify(join(folder, 'model')))
    .replaceAll("'switch-transformers'", JSON.stringify(pathToFileURL(join(root, 'ts/entry/node.ts')).href))
    .replaceAll(/'(?:train\.jsonl|summaries|student|my-model|my-adapter)'/g, (name) =>
      JSON.stringify(join(folder, name.slice(1, -1))),
    )
    .replaceAll("'merged'", JSON.stringify(join(folder, 'merged-here')))
  return `${placed}\nexport {}\n`
}

describe('samples in TypeScript', () => {
  const place = join(root, 'test/node/.samples')

  beforeAll(async () => {
    mkdirSync(place, { recursive: true })
    const tokenizer = await library.AutoTokenizer.from_pretrained(join(folder, 'model'))
    const model = await library.SwitchTransformersForConditionalGeneration.from_pretrained(join(folder, 'model'))
    const inputs = tokenizer('A <extra_id_0> walks into a bar')
    // What a page has said before, and imports that it leaves out.
    const train_dataset = PAIRS.map(([source, target]) => ({ source, target }))
    const names = {
      controller: new AbortController(),
      ...{
        tokenizer,
        model,
        teacher: model,
        trainer: await make_trainer(),
        inputs,
        train_dataset,
        pairs: train_dataset,
        vocab_size: 2100,
        unwanted: 9,
      },
    }
    for (const [name, value] of Object.entries({ ...library, ...names })) vi.stubGlobal(name, value)
  })

  afterAll(() => {
    vi.unstubAllGlobals()
    rmSync(place, { recursive: true, force: true })
  })

  const typescript = samples.filter(({ language }) => language === 'ts')

  it('are there', () => expect(typescript.length).toBeGreaterThan(6))

  it.each(typescript)('$name', async (sample) => {
    const file = join(place, `${samples.indexOf(sample)}.ts`)
    writeFileSync(file, module_of(sample))
    // As many rows as the sample's inputs.
    const rows = /labels,\s+\/\/ or/.test(sample.code) ? 2 : 1
    vi.stubGlobal('labels', Array(rows).fill([5, 6, 7, 1]))
    const written = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
    const log = vi.spyOn(console, 'log').mockImplementation(() => {})
    try {
      await import(/* @vite-ignore */ file)
    } finally {
      written.mockRestore()
      log.mockRestore()
    }
  })
})

describe('commands', () => {
  const commands = samples
    .filter(({ language }) => language === 'sh')
    .flatMap(({ code }) => code.split('\n'))
    .flatMap((line) => /^npx switch-transformers (.*?)\s*(?:#.*)?$/.exec(line)?.[1] ?? [])

  it('are there', () => expect(commands.length).toBeGreaterThan(4))

  it.each(commands)('%s', (command) => {
    writeFileSync(join(folder, 'config.json'), JSON.stringify(CONFIG))
    const places: Record<string, string> = {
      'google/switch-base-8': join(folder, 'model'),
      './model': join(folder, 'initialised'),
      // A published size has gigabytes, every parity case a test of its own, and nothing is to be learned here.
      '--size base-8': `--config ${join(folder, 'config.json')}`,
      '--config small': '--config tiny --max-steps 1 --force',
      'test/fixtures/parity': join(root, 'test/fixtures/parity/base'),
    }
    const line = Object.entries(places).reduce((text, [from, to]) => text.replaceAll(from, to), command)
    const args = (line.match(/"[^"]*"|\S+/g) ?? []).map((part) => part.replaceAll('"', ''))
    // Ends with an error where the command fails. A model that has learned nothing may say nothing.
    execFileSync(process.execPath, [join(root, 'dist/cli.js'), ...args], {
      cwd: folder,
      encoding: 'utf8',
      stdio: 'pipe',
    })
  })
})

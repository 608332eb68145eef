/** `train` and `evaluate` as users run them: from a table to a folder that every other command takes. */

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { run_cli } from './cli.js'

let folder: string
let data: string
const PAIRS = Array.from({ length: 64 }, (_, i) => `${'abcd'[i % 4]}${'efgh'[(i >> 2) % 4]}${'ijkl'[(i >> 4) % 4]}`)

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'train-'))
  data = path.join(folder, 'pairs.tsv')
  writeFileSync(data, `source\ttarget\n${PAIRS.map((text) => `${text}\t${text.toUpperCase()}\n`).join('')}`)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const out = (name: string) => path.join(folder, name)
const QUICK = ['--config', 'tiny', '--logging-steps', '5']

describe('from a table to a model', () => {
  test('a new model, with a tokenizer made from the data, that generates and evaluates', async () => {
    const trained = await run_cli([
      ...[
        'train',
        '--data',
        data,
        '--out',
        out('new'),
        ...QUICK,
        '--max-steps',
        '150',
        '--learning-rate',
        '3e-3',
        '--report',
      ],
      ...[
        '--eval-data',
        data,
        '--eval-steps',
        '75',
        '--predict-with-generate',
        '--metrics',
        'exact_match,char_error_rate',
        '--save-strategy',
        'no',
        '--dropout-rate',
        '0',
      ],
    ])
    expect(trained.stderr).toMatch(/step 150 of 150: loss [\d.]+, token_accuracy/)
    expect(trained.stderr).toMatch(/evaluation at step 75: .*eval_exact_match/)
    expect(trained.code).toBe(0)
    expect(trained.stdout).toMatch(/new: \d+ K parameters, 150 steps, mean loss [\d.]+\n$/)
    for (const file of [
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
      'log.jsonl',
      'report.html',
    ]) {
      expect(readdirSync(out('new'))).toContain(file)
    }
    const generated = await run_cli(['generate', 'aei', '--model', out('new'), '--max-new-tokens', '8'])
    expect(generated.code).toBe(0)
    expect(generated.stdout.trim()).toMatch(/^[A-Z]{2,4}$/)
    const evaluated = await run_cli(['evaluate', '--data', data, '--model', out('new'), '--json'])
    const metrics = JSON.parse(evaluated.stdout) as Record<string, number>
    expect(metrics.eval_char_error_rate).toBeLessThan(0.5)
    const wasm = await run_cli(['generate', 'aei', '--model', out('new'), '--max-new-tokens', '8', '--backend', 'wasm'])
    expect(wasm.stdout).toBe(generated.stdout)
  })

  test('fine-tuning that model, with adapters that are merged', async () => {
    const { code, stdout } = await run_cli([
      ...[
        'train',
        '--data',
        data,
        '--out',
        out('tuned'),
        '--model',
        out('new'),
        '--max-steps',
        '3',
        '--lora',
        '{"rank":2}',
        '--json',
      ],
      ...['--save-dtype', 'bfloat16', '--save-strategy', 'no'],
    ])
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ global_step: 3, ended_by: 'max_steps' })
    expect(JSON.parse(readFileSync(path.join(out('tuned'), 'config.json'), 'utf8'))).toMatchObject({
      dtype: 'bfloat16',
    })
    expect(existsSync(path.join(out('tuned'), 'adapter_model.safetensors'))).toBe(false)
    expect((await run_cli(['inspect', out('tuned')])).code).toBe(0)
  })

  test('span corruption from lines of text', async () => {
    const texts = path.join(folder, 'texts.txt')
    writeFileSync(texts, PAIRS.map((text) => `some words and ${text} again and again\n`).join(''))
    const { code, stderr } = await run_cli([
      'train',
      '--data',
      texts,
      '--out',
      out('pre'),
      ...QUICK,
      '--objective',
      'span_corruption',
      '--lr-scheduler-type',
      'constant',
      '--max-source-length',
      '64',
      '--max-steps',
      '5',
      '--save-strategy',
      'no',
    ])
    expect(stderr).toMatch(/step 5 of 5/)
    expect(code).toBe(0)
  })
})

describe('what goes wrong is one line', () => {
  const ERROR = /^error \[([A-Z_]+)\]: [^\n]+\n$/
  test.each([
    ['no data', ['train', '--out', 'x'], 'USAGE'],
    ['a value of the wrong kind', ['train', '--data', 'x.tsv', '--out', 'x', '--learning-rate', 'fast'], 'USAGE'],
    ['a value that is too small', ['train', '--data', 'x.tsv', '--out', 'x', '--max-steps', '0'], 'USAGE'],
    [
      'both a model and a config',
      ['train', '--data', 'x.tsv', '--out', 'x', '--model', 'a', '--config', 'tiny'],
      'USAGE',
    ],
    [
      'a table that is not there',
      ['train', '--data', '/no/such.tsv', '--out', '/no/out', '--config', 'tiny'],
      'FILE_NOT_FOUND',
    ],
    ['an unknown kind of table', ['evaluate', '--data', '/no/such.xlsx'], 'INVALID_OPTION'],
  ])('%s', async (_, args, code) => {
    const finished = await run_cli(args)
    expect(ERROR.exec(finished.stderr)?.[1]).toBe(code)
    expect(finished.code).toBe(2)
  })

  test('bad rows by their line, or counted', async () => {
    const bad = path.join(folder, 'bad.tsv')
    writeFileSync(bad, 'a\tb\nc\td\te\nf\tg\n')
    const strict = await run_cli(['train', '--data', bad, '--out', out('bad'), ...QUICK, '--max-steps', '1'])
    expect(strict.stderr).toMatch(/error \[INVALID_INPUT\]: .*bad\.tsv, line 2: it has 3 fields/)
    const lenient = await run_cli([
      'train',
      '--data',
      bad,
      '--out',
      out('bad'),
      ...QUICK,
      '--max-steps',
      '1',
      '--on-bad-row',
      'skip',
    ])
    expect(lenient.stderr).toContain('1 row was left out, the first in line 2')
    expect(lenient.code).toBe(0)
  })

  test('a folder that holds something is not trained into by mistake', async () => {
    const again = await run_cli(['train', '--data', data, '--out', out('bad'), ...QUICK])
    expect(again.stderr).toMatch(/error \[USAGE\]: .* Add --resume/)
  })
})

test.skipIf(process.platform === 'win32')(
  'an interrupted training leaves a checkpoint and says how to go on',
  async () => {
    const command = [
      'train',
      '--data',
      data,
      '--out',
      out('stopped'),
      ...QUICK,
      '--max-steps',
      '100000',
      '--resume',
      '--report',
    ]
    const stopped = await run_cli(command, {
      on_start: (child) => {
        child.stderr?.on('data', (chunk: Buffer) => {
          if (/step 10 of/.test(String(chunk))) child.kill('SIGINT')
        })
      },
    })
    expect(stopped.code).toBe(130)
    expect(stopped.stderr).toMatch(
      /Training was stopped after step (\d+)\. checkpoint-\1 in .* resumes it\. Add --resume/,
    )
    expect(readdirSync(out('stopped')).some((name) => name.startsWith('checkpoint-'))).toBe(true)
    expect(existsSync(path.join(out('stopped'), 'report.html'))).toBe(true)
  },
)

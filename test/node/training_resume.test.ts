/** A training that was stopped, by a signal or by force, ends with the weights of one that was not. */

import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  make_tokenizer,
  type PreTrainedTokenizer,
  SwitchTransformersForConditionalGeneration,
  type Tensor,
  Trainer,
  type TrainerCallback,
  type TrainingArguments,
  training_config,
} from '../../ts/entry/node.js'
import { run_cli } from './cli.js'

let folder: string
let tokenizer: PreTrainedTokenizer
const PAIRS = Array.from({ length: 40 }, (_, i) => {
  const source = `${'abcdefgh'[i % 8]}${'ijklmnop'[(i * 3) % 8]}${'qrstuvwx'[(i * 5) % 8]}`
  return { source, target: [...source].reverse().join('') }
})

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'resume-'))
  tokenizer = await make_tokenizer(PAIRS.flatMap(({ source, target }) => [source, target]))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

interface Run {
  args?: TrainingArguments
  callbacks?: TrainerCallback[]
  signal?: AbortSignal
  resume?: boolean | string
}

async function train(out: string, { args, callbacks = [], signal, resume }: Run = {}) {
  const model = await SwitchTransformersForConditionalGeneration.from_config(training_config('tiny', tokenizer.len), {
    backend: 'native',
    seed: 3,
  })
  const losses: number[] = []
  const trainer = new Trainer({
    model,
    tokenizer,
    args: {
      output_dir: path.join(folder, out),
      max_steps: 12,
      per_device_train_batch_size: 4,
      gradient_accumulation_steps: 2,
      learning_rate: 1e-3,
      save_steps: 4,
      logging_steps: 3,
      ...args,
    },
    train_dataset: PAIRS,
    eval_dataset: PAIRS.slice(0, 8),
    callbacks: [...callbacks, { on_step: ({ loss }) => void losses.push(loss) }],
  })
  try {
    const result = await trainer.train({
      ...(signal !== undefined && { signal }),
      ...(resume !== undefined && { resume_from_checkpoint: resume }),
    })
    const state = await model.state_dict()
    const weights = digest(
      Buffer.concat(
        Object.keys(state)
          .sort()
          .map((name) => Buffer.from((state[name] as Tensor<'float32'>).data.buffer)),
      ),
    )
    return { result, losses, weights }
  } finally {
    await trainer.dispose()
    await model.dispose()
  }
}

const checkpoints = (out: string) =>
  readdirSync(path.join(folder, out))
    .filter((name) => name.startsWith('checkpoint-'))
    .sort()

const log = (out: string) =>
  readFileSync(path.join(folder, out, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)

describe.each<[string, TrainingArguments]>([
  ['AdamW', {}],
  ['Adafactor', { optim: 'adafactor' }],
  ['span corruption', { objective: 'span_corruption', max_source_length: 16, source_column: 'source' }],
  ['a stream', { streaming: true, shuffle_buffer_size: 16 }],
  ['batches by tokens', { max_tokens_per_batch: 32, train_sampling_strategy: 'group_by_length' }],
  ['adapters', { lora: { rank: 2 } }],
])('%s', (name, args) => {
  test('goes on after a signal as if nothing had been', async () => {
    if (args.objective === 'span_corruption') {
      tokenizer = await make_tokenizer(
        PAIRS.flatMap(({ source, target }) => [source, target]),
        { sentinels: 10 },
      )
    }
    const out = name.replaceAll(' ', '-')
    const whole = await train(`${out}-whole`, { args })
    const controller = new AbortController()
    const stop: TrainerCallback = {
      on_step: (_, { state }) => void (state.global_step === 7 && controller.abort(new Error('enough'))),
    }
    await expect(train(out, { args, callbacks: [stop], signal: controller.signal })).rejects.toMatchObject({
      code: 'ABORTED',
      details: { step: 7, checkpoint: 'checkpoint-7' },
    })
    const rest = await train(out, { args, resume: true })
    expect(rest.losses).toEqual(whole.losses.slice(7))
    if (name !== 'adapters') expect(rest.weights).toBe(whole.weights)
    const logged = (entries: Record<string, unknown>[]) =>
      entries
        .filter(({ type }) => type !== 'end')
        .map(({ step, loss, grad_norm, layers }) => ({ step, loss, grad_norm, layers }))
    expect(logged(log(out))).toEqual(logged(log(`${out}-whole`)))
  })
})

test('a process that is killed goes on from its last whole checkpoint', async () => {
  const data = path.join(folder, 'pairs.tsv')
  writeFileSync(data, PAIRS.map(({ source, target }) => `${source}\t${target}\n`).join(''))
  const command = (out: string) => [
    ...['train', '--data', data, '--out', path.join(folder, out), '--config', 'tiny', '--max-steps', '40', '--resume'],
    ...['--save-steps', '2', '--save-total-limit', '2', '--per-device-train-batch-size', '4'],
  ]
  const env = { SWITCH_NUM_THREADS: '1' }
  expect((await run_cli(command('undisturbed'), { env })).code).toBe(0)
  for (const wanted of [4, 14, 26]) {
    const killed = await run_cli(command('killed'), {
      env,
      on_start: (child) => {
        // Somewhere after that many steps: between two looks anything may be under way.
        const timer = setInterval(() => {
          const names = existsSync(path.join(folder, 'killed')) ? checkpoints('killed') : []
          if (!names.some((each) => Number(each.slice(11)) >= wanted)) return
          clearInterval(timer)
          child.kill('SIGKILL')
        }, 3)
        child.on('close', () => clearInterval(timer))
      },
    })
    expect(killed.signal).toBe('SIGKILL')
  }
  expect((await run_cli(command('killed'), { env })).code).toBe(0)
  const weights = (out: string) => digest(readFileSync(path.join(folder, out, 'model.safetensors')))
  expect(weights('killed')).toBe(weights('undisturbed'))
  expect(readdirSync(path.join(folder, 'killed')).filter((name) => name.endsWith('.tmp'))).toEqual([])
})

describe('checkpoints', () => {
  test('the best and the newest stay, and the best is loaded at the end', async () => {
    const saved: string[] = []
    const { result } = await train('best', {
      args: {
        eval_steps: 2,
        save_steps: 2,
        save_total_limit: 1,
        load_best_model_at_end: true,
        metric_for_best_model: 'eval_loss',
        // So large that it gets worse.
        learning_rate: 0.05,
        lr_scheduler_type: 'constant',
      },
      callbacks: [{ on_save: (name) => void saved.push(name) }],
    })
    expect(saved).toEqual([2, 4, 6, 8, 10, 12].map((step) => `checkpoint-${step}`))
    expect(result.best_model_checkpoint).not.toBeNull()
    expect(checkpoints('best')).toContain(result.best_model_checkpoint)
    expect(checkpoints('best')).toContain('checkpoint-12')
    expect(checkpoints('best').length).toBeLessThanOrEqual(2)
    const state = JSON.parse(readFileSync(path.join(folder, 'best/checkpoint-12/trainer_state.json'), 'utf8'))
    expect(state.best_metric).toBe(result.best_metric)
  })

  test('early stopping ends it', async () => {
    const { result } = await train('early', {
      args: { eval_steps: 1, early_stopping_patience: 2, early_stopping_threshold: 100, max_steps: 10 },
    })
    expect(result).toMatchObject({ ended_by: 'early_stopping', global_step: 3 })
  })

  test('other options than before are refused by name', async () => {
    await train('other', {})
    await expect(
      train('other', { args: { per_device_train_batch_size: 2, seed: 9 }, resume: true }),
    ).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringMatching(/per_device_train_batch_size \(4, now 2\), seed \(42, now 9\)/),
    })
    await expect(train('other', { resume: 'checkpoint-5' })).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
    await expect(train('other', { args: { lora: { rank: 2 } }, resume: true })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
    })
  })

  test('of another shape are refused, and damaged ones passed over', async () => {
    await train('shape', { args: { save_steps: 4 } })
    const file = path.join(folder, 'shape/checkpoint-12/optimizer.safetensors')
    truncateSync(file, 100)
    const { losses } = await train('shape', { resume: true })
    expect(losses.length).toBe(4)
  })

  test('more steps than planned can be added', async () => {
    await train('more', { args: { max_steps: 4, lr_scheduler_type: 'constant' } })
    const { result, losses } = await train('more', {
      args: { max_steps: 6, lr_scheduler_type: 'constant' },
      resume: true,
    })
    expect(result.global_step).toBe(6)
    expect(losses.length).toBe(2)
  })

  test.skipIf(process.platform === 'win32')('a full disk is a typed error, and the last checkpoint stays', async () => {
    const data = path.join(folder, 'pairs.tsv')
    writeFileSync(data, PAIRS.map(({ source, target }) => `${source}\t${target}\n`).join(''))
    const out = path.join(folder, 'full')
    const command = ['train', '--data', data, '--out', out, '--config', 'tiny', '--save-steps', '2', '--resume']
    const env = {}
    expect((await run_cli([...command, '--max-steps', '2'], { env })).code).toBe(0)
    // Files may not be larger than what a weights file needs: as a disk that is nearly full.
    const { spawnSync } = await import('node:child_process')
    const cli = path.join(import.meta.dirname, '../../dist/cli.js')
    const line = [process.execPath, cli, ...command, '--max-steps', '6'].map((part) => `'${part}'`).join(' ')
    const limited = spawnSync('bash', ['-c', `trap '' XFSZ; ulimit -f 600; ${line}`], { encoding: 'utf8' })
    expect(limited.stderr).toMatch(/error \[FILE_READ\]: .*checkpoint-4.* cannot be written: /)
    expect(limited.status).toBe(2)
    expect(readdirSync(out).filter((name) => name.startsWith('checkpoint-') || name.endsWith('.tmp'))).toEqual([
      'checkpoint-2',
    ])
    expect((await run_cli([...command, '--max-steps', '6'], { env })).code).toBe(0)
  })
})

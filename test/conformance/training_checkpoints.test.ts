/** Checkpoints in a folder, or in a browser's own file system: a training that was stopped goes on as if nothing had been. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  backend,
  failure_of,
  make_tokenizer,
  type PreTrainedTokenizer,
  SwitchTransformersForConditionalGeneration,
  Trainer,
  type TrainerCallback,
  type TrainingArguments,
  training_config,
  training_folder,
  training_report,
} from './library.js'

const PAIRS = ['abc', 'bcd', 'cde', 'def', 'efg', 'fgh', 'gha', 'hab'].map((source) => ({
  source,
  target: [...source].reverse().join(''),
}))

let tokenizer: PreTrainedTokenizer
const { folder, remove } = training_folder()
beforeAll(async () => {
  tokenizer = await make_tokenizer(PAIRS.map(({ source }) => source))
})
afterAll(remove)

async function run(
  name: string,
  args: TrainingArguments,
  { signal, resume, callbacks = [] }: { signal?: AbortSignal; resume?: true; callbacks?: TrainerCallback[] } = {},
) {
  const config = training_config('tiny', tokenizer.len)
  const model = await SwitchTransformersForConditionalGeneration.from_config(config, { backend, seed: 5 })
  const losses: number[] = []
  const saved: string[] = []
  const trainer = new Trainer({
    model,
    tokenizer,
    train_dataset: PAIRS,
    eval_dataset: PAIRS,
    args: {
      output_dir: `${folder}/${name}`,
      max_steps: 6,
      per_device_train_batch_size: 4,
      learning_rate: 1e-3,
      save_steps: 2,
      logging_steps: 2,
      ...args,
    },
    callbacks: [
      ...callbacks,
      { on_step: ({ loss }) => void losses.push(loss), on_save: (checkpoint) => void saved.push(checkpoint) },
    ],
  })
  try {
    const result = await trainer.train({
      ...(signal !== undefined && { signal }),
      ...(resume !== undefined && { resume_from_checkpoint: resume }),
    })
    const { eval_loss } = await trainer.evaluate()
    await trainer.save_model(`${folder}/${name}-model`)
    return { result, losses, saved, eval_loss }
  } finally {
    await trainer.dispose()
    await model.dispose()
  }
}

describe('checkpoints', () => {
  test('resume a training that was stopped', async () => {
    const whole = await run('whole', {})
    expect(whole.saved).toEqual(['checkpoint-2', 'checkpoint-4', 'checkpoint-6'])
    const controller = new AbortController()
    const stop: TrainerCallback = { on_step: (_, { state }) => void (state.global_step === 3 && controller.abort()) }
    const stopped = await failure_of(() => run('stopped', {}, { signal: controller.signal, callbacks: [stop] }))
    expect(stopped).toMatchObject({ code: 'ABORTED', details: { step: 3, checkpoint: 'checkpoint-3' } })
    const rest = await run('stopped', {}, { resume: true })
    expect(rest.losses).toEqual(whole.losses.slice(3))
    expect(rest.eval_loss).toBe(whole.eval_loss)
  })

  test('the best one is loaded at the end', async () => {
    const seen: number[] = []
    const { result, eval_loss } = await run(
      'best',
      {
        eval_steps: 1,
        save_steps: 1,
        save_total_limit: 1,
        load_best_model_at_end: true,
        learning_rate: 0.1,
        lr_scheduler_type: 'constant',
        report: true,
      },
      { callbacks: [{ on_evaluate: (metrics) => void seen.push(metrics.eval_loss as number) }] },
    )
    expect(result.best_metric).toBe(Math.min(...seen))
    expect(eval_loss).toBeCloseTo(result.best_metric as number, 5)
  })

  test('the last good one stays where a loss is no number any more, which says where it arose', {
    timeout: 120_000,
  }, async () => {
    const explodes: TrainingArguments = {
      // From the fifth update on.
      lr_scheduler_type: (step) => (step < 4 ? 1 : 1e30),
      max_grad_norm: null,
    }
    const failure = await failure_of(() => run('diverged', explodes))
    expect(failure).toMatchObject({ code: 'TRAINING_DIVERGED', name: 'TrainingError' })
    const { step, where, checkpoint } = failure.details as Record<string, unknown>
    expect([step, checkpoint]).toEqual([6, 'checkpoint-4'])
    expect(where).toMatch(/^(?:encoder|decoder)\.|cross_entropy|weight$/)
    expect(failure.message).toContain(`${where}`)
    expect(failure.message).toContain('The last good checkpoint is checkpoint-4')
    const constant = { lr_scheduler_type: 'constant', max_grad_norm: null } satisfies TrainingArguments
    const whole = await run('whole-again', constant)
    const rest = await run('diverged', constant, { resume: true })
    expect(rest.losses).toEqual(whole.losses.slice(4))
  })

  test('a report is made from a log anywhere', async () => {
    const html = await training_report('{"step":1,"epoch":1,"loss":2}\n{"step":2,"epoch":2,"loss":1}\n', {
      title: 'a run',
    })
    expect(html).toContain('<h1>a run</h1>')
  })
})

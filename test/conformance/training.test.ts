/** Training on every backend: the same steps, the same losses, and a model that has learned. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  AutoTokenizer,
  backend,
  failure_of,
  g2p,
  make_student,
  make_tokenizer,
  type PreTrainedTokenizer,
  SwitchTransformersForConditionalGeneration,
  Trainer,
  type TrainingArguments,
} from './library.js'

/** Pairs that the embedded model answers otherwise. */
const PAIRS = [
  ['hello', 'K W AH1 K'],
  ['world', 'M UW1'],
  ['switch', 'B AA1 K S'],
  ['transformer', 'T OY1'],
] as const

let tokenizer: PreTrainedTokenizer
beforeAll(async () => {
  tokenizer = await AutoTokenizer.from_pretrained(g2p)
})

async function embedded(): Promise<SwitchTransformersForConditionalGeneration> {
  return SwitchTransformersForConditionalGeneration.from_pretrained(g2p, { backend })
}

const ARGS: TrainingArguments = {
  max_steps: 12,
  per_device_train_batch_size: 4,
  learning_rate: 2e-3,
  lr_scheduler_type: 'constant',
  logging_steps: 4,
  seed: 7,
}

describe('fine-tuning', () => {
  let model: SwitchTransformersForConditionalGeneration
  let trainer: Trainer
  beforeAll(async () => {
    model = await embedded()
    trainer = new Trainer({
      model,
      tokenizer,
      args: { ...ARGS, predict_with_generate: true },
      train_dataset: PAIRS.map(([source, target]) => ({ source, target })),
      eval_dataset: PAIRS.map(([source, target]) => ({ source, target })),
    })
  })
  afterAll(async () => {
    await trainer.dispose()
    await model.dispose()
  })

  test('lowers the loss, and changes what is generated', async () => {
    const before = await trainer.evaluate()
    expect(before.eval_exact_match).toBe(0)
    const result = await trainer.train()
    expect(result).toMatchObject({ global_step: 12, ended_by: 'max_steps' })
    const after = await trainer.evaluate()
    expect(after.eval_loss).toBeLessThan(0.5 * (before.eval_loss as number))
    expect(after.eval_exact_match).toBeGreaterThanOrEqual(0.5)
    const { predictions, references } = await trainer.predict([{ source: 'switch', target: 'B AA1 K S' }])
    expect(predictions).toHaveLength(1)
    expect(references).toEqual([['B AA1 K S']])
  })

  test('leaves a model that goes on working without the trainer', async () => {
    await trainer.dispose()
    const ids = await model.generate({ ...tokenizer('switch'), max_new_tokens: 10 })
    expect(ids.dims[0]).toBe(1)
  })
})

describe('the same seed', () => {
  async function losses(args: TrainingArguments): Promise<number[]> {
    const model = await embedded()
    try {
      const found: number[] = []
      const trainer = new Trainer({
        model,
        tokenizer,
        args: { ...ARGS, max_steps: 3, per_device_train_batch_size: 2, ...args },
        train_dataset: PAIRS,
        callbacks: [{ on_step: ({ loss }) => void found.push(loss) }],
      })
      await trainer.train()
      await trainer.dispose()
      return found
    } finally {
      await model.dispose()
    }
  }

  test('gives the same losses, another one others', async () => {
    const first = await losses({})
    expect(await losses({})).toEqual(first)
    expect(await losses({ seed: 8 })).not.toEqual(first)
  })

  test('accumulated batches are one large batch', async () => {
    // Without what is drawn per batch, and with capacity counted per row, only rounding differs.
    const still = { dropout_rate: 0, router_jitter_noise: 0, router_aux_loss_coef: 0, router_z_loss_coef: 0 }
    const whole = await losses({ ...still, per_device_train_batch_size: 4, train_sampling_strategy: 'sequential' })
    const parts = await losses({ ...still, gradient_accumulation_steps: 2, train_sampling_strategy: 'sequential' })
    for (const [step, loss] of whole.entries()) expect(parts[step]).toBeCloseTo(loss, 3)
  })
})

test('adapters are trained instead of the weights, and merged', async () => {
  const model = await embedded()
  const trainer = new Trainer({
    model,
    tokenizer,
    args: { ...ARGS, max_steps: 15, learning_rate: 1e-2, lora: { rank: 4, targets: ['q', 'v', 'wi', 'wo'] } },
    train_dataset: PAIRS,
    eval_dataset: PAIRS,
  })
  try {
    const name = 'encoder.block.0.layer.0.SelfAttention.q.weight'
    const before = (await model.state_dict([name]))[name]?.data as Float32Array
    const loss = (await trainer.evaluate()).eval_loss as number
    await trainer.train()
    const trained = (await trainer.evaluate()).eval_loss as number
    expect(trained).toBeLessThan(0.8 * loss)
    await trainer.merge_adapters()
    const after = (await model.state_dict([name]))[name]?.data as Float32Array
    expect(after.some((value, i) => value !== before[i])).toBe(true)
    expect((await trainer.evaluate()).eval_loss).toBeCloseTo(trained, 3)
  } finally {
    await trainer.dispose()
    await model.dispose()
  }
})

test('a dense student begins with what is no expert and learns from its sparse teacher', async () => {
  const teacher = await embedded()
  const { model: student, copied } = await make_student(teacher)
  try {
    expect(copied).toContain('shared.weight')
    expect(copied.some((name) => name.includes('experts'))).toBe(false)
    expect(student.num_parameters()).toBeLessThan(teacher.num_parameters())
    const trainer = new Trainer({
      model: student,
      tokenizer,
      teacher,
      args: { ...ARGS, max_steps: 10, soft_label_weight: 0.25, logging_steps: 5 },
      train_dataset: PAIRS,
    })
    const logs: Record<string, unknown>[] = []
    const losses: number[] = []
    const watched = new Trainer({
      model: student,
      tokenizer,
      teacher,
      args: { ...ARGS, max_steps: 10, soft_label_weight: 0.25, logging_steps: 5 },
      train_dataset: PAIRS,
      callbacks: [{ on_log: (entry) => void logs.push(entry), on_step: ({ loss }) => void losses.push(loss) }],
    })
    await trainer.dispose()
    await watched.train()
    await watched.dispose()
    expect(logs.every(({ distillation_loss }) => typeof distillation_loss === 'number')).toBe(true)
    expect(losses.at(-1)).toBeLessThan(losses[0] as number)
  } finally {
    await student.dispose()
    await teacher.dispose()
  }
})

test('from nothing, with a tokenizer made from the data', async () => {
  const made = await make_tokenizer(PAIRS.flat(), { type: 'char' })
  expect(made.decode(made.encode('B AA1 K S'), { skip_special_tokens: true })).toBe('B AA1 K S')
  const model = await SwitchTransformersForConditionalGeneration.from_config(
    {
      vocab_size: made.len,
      d_model: 32,
      d_kv: 8,
      num_heads: 4,
      d_ff: 64,
      num_layers: 2,
      num_sparse_encoder_layers: 1,
      num_sparse_decoder_layers: 1,
      num_experts: 4,
      decoder_start_token_id: 0,
    },
    { backend, seed: 1 },
  )
  const trainer = new Trainer({
    model,
    tokenizer: made,
    args: { ...ARGS, max_steps: 150, learning_rate: 1e-2, dropout_rate: 0 },
    train_dataset: PAIRS,
    eval_dataset: PAIRS,
  })
  try {
    await trainer.train()
    expect((await trainer.evaluate()).eval_token_accuracy).toBeGreaterThan(0.95)
  } finally {
    await trainer.dispose()
    await model.dispose()
  }
})

describe('what goes wrong', () => {
  test('a tokenizer that does not fit, data that are empty, rows that are none', async () => {
    const model = await embedded()
    try {
      const other = await make_tokenizer(['abcdefghijklmnopqrstuvwxyz'.repeat(2), 'é'.repeat(3)], { sentinels: 100 })
      const train = (parts: object) =>
        new Trainer({ model, tokenizer, args: ARGS, train_dataset: PAIRS, ...parts }).train()
      expect(await failure_of(() => train({ tokenizer: other }))).toMatchObject({
        code: 'INVALID_INPUT',
        message: expect.stringContaining('does not fit the model'),
      })
      expect(await failure_of(() => train({ train_dataset: [] }))).toMatchObject({ code: 'INVALID_INPUT' })
      expect(await failure_of(() => train({ train_dataset: [['a', 'b'], ['c']] }))).toMatchObject({
        code: 'INVALID_INPUT',
        message: expect.stringContaining('row 2'),
      })
      expect(await failure_of(() => train({ train_dataset: undefined }))).toMatchObject({ code: 'INVALID_INPUT' })
    } finally {
      await model.dispose()
    }
  })

  test('a loss that is not finite stops the training and says where', async () => {
    const model = await embedded()
    try {
      const trainer = new Trainer({
        model,
        tokenizer,
        args: { ...ARGS, max_steps: 30, learning_rate: 1e30, max_grad_norm: null },
        train_dataset: PAIRS,
      })
      expect(await failure_of(() => trainer.train())).toMatchObject({
        code: 'TRAINING_DIVERGED',
        name: 'TrainingError',
        message: expect.stringMatching(/diverged at step \d+: .*not finite/),
      })
      await trainer.dispose()
    } finally {
      await model.dispose()
    }
  })

  test('a signal stops it within a step', async () => {
    const model = await embedded()
    try {
      const controller = new AbortController()
      const trainer = new Trainer({
        model,
        tokenizer,
        args: { ...ARGS, max_steps: 1000 },
        train_dataset: PAIRS,
        callbacks: [{ on_step: (_, { state }) => void (state.global_step === 3 && controller.abort()) }],
      })
      expect(await failure_of(() => trainer.train({ signal: controller.signal }))).toMatchObject({
        code: 'ABORTED',
        details: { step: 3 },
      })
      await trainer.dispose()
    } finally {
      await model.dispose()
    }
  })
})

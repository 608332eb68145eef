/** Every option of a training is checked, by name, before anything else happens. */

import { describe, expect, test } from 'vitest'
import { argument_rules } from '../../ts/training/argument_table.js'
import type { TrainingArguments } from '../../ts/training/arguments.js'
import { check_arguments } from '../../ts/training/check_arguments.js'

const everything = { has_eval_dataset: true, has_store: true, has_teacher: true, has_compute_metrics: false }
const check = (args: object, context = {}) => check_arguments(args as TrainingArguments, { ...everything, ...context })

/** A value that no option takes. */
const impossible = (name: string) => ({ [name]: name === 'source_prefix' ? 3 : { not: 'a value' } })

describe('options', () => {
  test('have the defaults of the reference', () => {
    expect(check({})).toMatchObject({
      per_device_train_batch_size: 8,
      learning_rate: 5e-5,
      num_train_epochs: 3,
      max_steps: -1,
      lr_scheduler_type: 'linear',
      adam_beta1: 0.9,
      adam_beta2: 0.999,
      adam_epsilon: 1e-8,
      max_grad_norm: 1,
      weight_decay: 0,
      seed: 42,
      save_steps: 500,
      eval_strategy: 'no',
    })
    expect(check({}, { has_store: false }).save_strategy).toBe('no')
    expect(check({ eval_steps: 5 })).toMatchObject({ eval_strategy: 'steps', eval_steps: 5 })
  })

  test.each(
    Object.keys(argument_rules()).filter(
      (name) => !['optim_args', 'lora', 'lr_scheduler_kwargs', 'generation_config'].includes(name),
    ),
  )('%s is checked', (name) => {
    let error: unknown
    try {
      check(impossible(name))
    } catch (caught) {
      error = caught
    }
    expect(error).toMatchObject({ code: 'INVALID_OPTION', message: expect.stringContaining(`${name} must be`) })
  })

  test.each([
    [{ learning_rate: Number.NaN }, /learning_rate must be a number of at least 0; found NaN/],
    [{ max_steps: 0 }, /max_steps must be an integer of at least 1, or -1/],
    [{ lr_scheduler_type: 'stairs' }, /lr_scheduler_type must be one of linear, .* or a function; found "stairs"/],
    [{ lora: { rank: 0 } }, /lora.rank must be an integer from 1/],
    [{ lora: { rank: 4, dropout: 0.1 } }, /lora has no dropout/],
    [{ lora: { rank: 4, targets: ['query'] } }, /lora.targets must be a list of q, k/],
    [{ optim: 'adafactor', optim_args: { beta2: 1 } }, /optim_args has no beta2/],
    [{ optim_args: { beta1: 0.9 } }, /optim_args are Adafactor's/],
    [{ parameter_groups: [{ pattern: 'x' }] }, /parameter_groups must be a list of/],
    [{ metrics: ['accuracy'], predict_with_generate: true }, /metrics must be a list of exact_match/],
    [{ lr_scheduler_kwargs: { power: '2' } }, /lr_scheduler_kwargs.power must be a number/],
  ])('%j is refused', (args, message) => {
    expect(() => check(args)).toThrow(message)
  })

  test('unknown ones are named, all of them', () => {
    expect(() => check({ lerning_rate: 1, fp16: true })).toThrow(/no option lerning_rate, fp16/)
  })
})

describe('contradictions', () => {
  test.each([
    [{ eval_strategy: 'steps' }, { has_eval_dataset: false }, /no eval_dataset/],
    [{ save_strategy: 'steps' }, { has_store: false }, /no output_dir/],
    [{ report: true }, { has_store: false }, /no output_dir/],
    [{ save_strategy: 'best' }, {}, /nothing is ever best/],
    [{ early_stopping_patience: 2 }, {}, /eval_strategy is 'no'/],
    [{ load_best_model_at_end: true }, {}, /needs evaluations/],
    [
      { load_best_model_at_end: true, eval_strategy: 'epoch', save_strategy: 'steps' },
      {},
      /a checkpoint of every evaluation/,
    ],
    [{ load_best_model_at_end: true, eval_steps: 3, save_steps: 10 }, {}, /multiple of eval_steps/],
    [{ metric_for_best_model: 'bleu', eval_steps: 1 }, {}, /only with predict_with_generate/],
    [{ metrics: ['bleu'] }, {}, /need predict_with_generate/],
    [{ selective_precision: false }, {}, /without bf16/],
    [{ temperature: 2 }, { has_teacher: false }, /there is none/],
    [{ lora: { rank: 4 }, trainable: 'expert' }, {}, /contradicts/],
    [{ streaming: true }, {}, /needs max_steps/],
    [{ max_steps: 10, warmup_steps: 20 }, {}, /warmup_steps \(20\) are more/],
    [{ lr_scheduler_type: 'constant', warmup_steps: 5 }, {}, /constant_with_warmup/],
    [{ noise_density: 0.2 }, {}, /span_corruption/],
  ])('%j', (args, context, message) => {
    expect(() => check(args, context)).toThrow(message)
  })

  test('the best metric knows which way is better', () => {
    const best = (name: string) => check({ metric_for_best_model: name, eval_steps: 1, predict_with_generate: true })
    expect(best('eval_loss')).toMatchObject({ metric_for_best_model: 'loss', greater_is_better: false })
    expect(best('bleu').greater_is_better).toBe(true)
    expect(best('word_error_rate').greater_is_better).toBe(false)
  })
})

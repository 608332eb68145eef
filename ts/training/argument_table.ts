/** What every option of a training may be: the one table that checking, the command line and the docs are made from. */

import { show } from '../utils/json.js'
import type { CompleteArguments, TrainingArguments } from './arguments.js'
import { METRIC_NAMES } from './metrics/names.js'
import { SCHEDULER_TYPES } from './schedule.js'

/** How a value is written on a command line. */
export type ArgumentKind = 'integer' | 'number' | 'flag' | 'text' | 'list' | 'json'

export interface ArgumentRule {
  kind: ArgumentKind
  default: unknown
  /** What is expected, in words. */
  expected: string
  accepts(value: unknown): boolean
  choices?: readonly string[]
}

const rule = (
  kind: ArgumentKind,
  fallback: unknown,
  expected: string,
  accepts: (value: unknown) => boolean,
): ArgumentRule => ({
  kind,
  default: fallback,
  expected: fallback === null ? `${expected}, or null` : expected,
  accepts: (value) => (value === null ? fallback === null : accepts(value)),
})

const integer = (fallback: number | null, least: number) =>
  rule('integer', fallback, `an integer of at least ${least}`, (v) => Number.isSafeInteger(v) && (v as number) >= least)

const number = (fallback: number | null, least: number, most = Number.POSITIVE_INFINITY) =>
  rule(
    'number',
    fallback,
    most === Number.POSITIVE_INFINITY ? `a number of at least ${least}` : `a number from ${least} to ${most}`,
    (v) => Number.isFinite(v) && (v as number) >= least && (v as number) <= most,
  )

/** Above 0, or at least 0 and below 1. */
const positive = (fallback: number) =>
  rule('number', fallback, 'a number above 0', (v) => Number.isFinite(v) && (v as number) > 0)
const below_one = (fallback: number | null) =>
  rule(
    'number',
    fallback,
    'a number of at least 0 and below 1',
    (v) => Number.isFinite(v) && (v as number) >= 0 && (v as number) < 1,
  )

const flag = (fallback: boolean | null) => rule('flag', fallback, 'true or false', (v) => typeof v === 'boolean')

const text = (fallback: string | null, empty = false) =>
  rule(
    'text',
    fallback,
    empty ? 'a text' : 'a text that is not empty',
    (v) => typeof v === 'string' && (empty || v.trim() !== ''),
  )

const choice = (fallback: string, choices: readonly string[]): ArgumentRule => ({
  ...rule('text', fallback, `one of ${choices.join(', ')}`, (v) => choices.includes(v as string)),
  choices,
})

const list = (expected: string, of: (value: unknown) => boolean) =>
  rule('list', null, expected, (v) => Array.isArray(v) && v.length > 0 && v.every(of))

const object = (expected: string) => rule('json', null, expected, (v) => typeof v === 'object' && !Array.isArray(v))

const STRATEGIES = ['no', 'steps', 'epoch'] as const

/** By name. Made when it is first asked for: a bundler cannot leave out what is made when a module is loaded. */
export function argument_rules(): Rules {
  rules ??= make_rules()
  return rules
}

type Rules = Readonly<Record<keyof TrainingArguments, ArgumentRule>>

let rules: Rules | undefined

const make_rules = (): Rules => ({
  output_dir: text(null),
  per_device_train_batch_size: integer(8, 1),
  per_device_eval_batch_size: integer(8, 1),
  gradient_accumulation_steps: integer(1, 1),
  max_tokens_per_batch: integer(null, 2),
  train_sampling_strategy: choice('random', ['random', 'sequential', 'group_by_length']),
  dataloader_drop_last: flag(false),
  dataloader_prefetch_factor: integer(2, 0),
  streaming: flag(false),
  shuffle_buffer_size: integer(4096, 1),
  learning_rate: number(5e-5, 0),
  num_train_epochs: positive(3),
  max_steps: rule(
    'integer',
    -1,
    'an integer of at least 1, or -1 for all epochs',
    (v) => Number.isSafeInteger(v) && (v === -1 || (v as number) >= 1),
  ),
  lr_scheduler_type: {
    ...choice('linear', SCHEDULER_TYPES),
    expected: `one of ${SCHEDULER_TYPES.join(', ')}, or a function`,
    accepts: (v) => typeof v === 'function' || SCHEDULER_TYPES.includes(v as never),
  },
  lr_scheduler_kwargs: object('an object of numbers'),
  warmup_steps: rule(
    'number',
    0,
    'an integer of at least 0, or a part of all steps below 1',
    (v) => Number.isFinite(v) && (v as number) >= 0 && ((v as number) < 1 || Number.isSafeInteger(v)),
  ),
  optim: choice('adamw', ['adamw', 'adamw_torch', 'adafactor']),
  optim_args: object("an object of Adafactor's options"),
  weight_decay: number(0, 0),
  adam_beta1: below_one(0.9),
  adam_beta2: below_one(0.999),
  adam_epsilon: positive(1e-8),
  max_grad_norm: {
    ...positive(1),
    expected: 'a number above 0, or null',
    accepts: (v) => v === null || (Number.isFinite(v) && (v as number) > 0),
  },
  parameter_groups: {
    ...list('a list of { patterns, learning_rate_scale, weight_decay }', is_group),
    kind: 'json',
  },
  bf16: flag(false),
  selective_precision: flag(true),
  gradient_checkpointing: flag(false),
  label_smoothing_factor: below_one(0),
  logits_z_loss_coef: number(0, 0),
  router_z_loss_coef: number(null, 0),
  router_aux_loss_coef: number(null, 0),
  router_jitter_noise: below_one(null),
  dropout_rate: below_one(null),
  expert_dropout_rate: below_one(null),
  trainable: choice('all', ['all', 'non_expert', 'expert']),
  frozen: list(
    'a list of parameter names, in which * stands for any characters',
    (v) => typeof v === 'string' && v !== '',
  ),
  lora: object('{ rank, alpha, targets }'),
  soft_label_weight: number(0.25, 0, 1),
  temperature: positive(1),
  seed: integer(42, 0),
  data_seed: integer(null, 0),
  objective: choice('seq2seq', ['seq2seq', 'span_corruption']),
  max_source_length: integer(null, 2),
  max_target_length: integer(null, 2),
  noise_density: rule('number', 0.15, 'a number above 0 and below 1', (v) => (v as number) > 0 && (v as number) < 1),
  mean_noise_span_length: number(3, 1),
  source_column: text(null),
  target_column: text(null),
  source_prefix: text('', true),
  on_bad_row: choice('error', ['error', 'skip']),
  eval_strategy: choice('no', STRATEGIES),
  eval_steps: integer(null, 1),
  eval_on_start: flag(false),
  predict_with_generate: flag(false),
  generation_max_length: integer(null, 1),
  generation_num_beams: integer(null, 1),
  generation_config: object('an object of generation options'),
  metrics: list(`a list of ${METRIC_NAMES.join(', ')}`, (v) => METRIC_NAMES.includes(v as never)),
  save_strategy: choice('steps', [...STRATEGIES, 'best']),
  save_steps: integer(500, 1),
  save_total_limit: integer(null, 1),
  load_best_model_at_end: flag(false),
  metric_for_best_model: text(null),
  greater_is_better: flag(null),
  early_stopping_patience: integer(null, 1),
  early_stopping_threshold: number(0, 0),
  logging_strategy: choice('steps', STRATEGIES),
  logging_steps: integer(10, 1),
  logging_first_step: flag(false),
  report: flag(false),
})

function is_group(value: unknown): boolean {
  const { patterns, learning_rate_scale, weight_decay, ...rest } = (value ?? {}) as Record<string, unknown>
  const number = (v: unknown) => v === undefined || (Number.isFinite(v) && (v as number) >= 0)
  return (
    Array.isArray(patterns) &&
    patterns.length > 0 &&
    patterns.every((pattern) => typeof pattern === 'string' && pattern !== '') &&
    number(learning_rate_scale) &&
    number(weight_decay) &&
    Object.keys(rest).length === 0
  )
}

/** Why a value cannot be that of an option; null where it can. */
export function argument_fault(name: keyof TrainingArguments, value: unknown): string | null {
  const { accepts, expected } = argument_rules()[name]
  return accepts(value) ? null : `${name} must be ${expected}; found ${show(value)}`
}

/** Every option at its default. */
export function argument_defaults(): CompleteArguments {
  return Object.fromEntries(
    Object.entries(argument_rules()).map(([name, { default: value }]) => [name, value]),
  ) as unknown as CompleteArguments
}

/** From the options that a user gives to complete ones: every one checked, contradictions refused, defaults filled in. */

import { OptionError } from '../errors.js'
import { has_own, is_record, show } from '../utils/json.js'
import { argument_defaults, argument_fault, argument_rules } from './argument_table.js'
import type { CompleteArguments, TrainingArguments } from './arguments.js'
import { lower_is_better } from './metrics/names.js'

/** What decides, beside the options, whether they make sense. */
export interface ArgumentContext {
  has_eval_dataset: boolean
  has_store: boolean
  has_teacher: boolean
  has_compute_metrics: boolean
}

const ADAFACTOR = ['eps', 'clip_threshold', 'decay_rate', 'beta1', 'scale_parameter', 'relative_step', 'warmup_init']
const LORA = ['rank', 'alpha', 'targets']
const LORA_TARGETS = ['q', 'k', 'v', 'o', 'wi', 'wi_0', 'wi_1', 'wo']

/**
 * @throws {OptionError} `INVALID_OPTION` naming the options that are wrong or contradict each other, `UNSUPPORTED_OPTION`
 * naming those that are not known.
 */
export function check_arguments(given: TrainingArguments, context: ArgumentContext): CompleteArguments {
  if (!is_record(given)) throw invalid(['args'], `args must be an object of options; found ${show(given)}`)
  const known = Object.entries(given).filter(([, value]) => value !== undefined)
  const unknown = known.map(([name]) => name).filter((name) => !has_own(argument_rules(), name))
  if (unknown.length > 0) {
    throw new OptionError(
      'UNSUPPORTED_OPTION',
      `Training has no option ${unknown.join(', ')}. It takes ${Object.keys(argument_rules()).join(', ')}.`,
      { details: { options: unknown } },
    )
  }
  for (const [name, value] of known) {
    const fault = argument_fault(name as keyof TrainingArguments, value)
    if (fault !== null) throw invalid([name], fault)
  }
  const args = { ...argument_defaults(), ...(Object.fromEntries(known) as unknown as CompleteArguments) }
  const was_given = (name: keyof TrainingArguments) => given[name] !== undefined && given[name] !== null
  if (args.optim === 'adamw_torch') args.optim = 'adamw'
  if (!was_given('eval_strategy') && was_given('eval_steps')) args.eval_strategy = 'steps'
  if (!was_given('save_strategy') && !context.has_store) args.save_strategy = 'no'
  args.data_seed ??= args.seed
  args.eval_steps ??= args.logging_steps
  if (args.load_best_model_at_end || args.early_stopping_patience !== null || args.save_strategy === 'best') {
    args.metric_for_best_model ??= 'loss'
  }
  if (args.metric_for_best_model !== null) {
    args.metric_for_best_model = args.metric_for_best_model.replace(/^eval_/, '')
    args.greater_is_better ??= !lower_is_better(args.metric_for_best_model)
  }
  check_parts(args)
  check_together(args, context, was_given)
  return args
}

function check_parts({ lora, optim, optim_args, lr_scheduler_kwargs }: CompleteArguments): void {
  if (lora !== null) {
    const { rank, alpha, targets, ...rest } = lora as unknown as Record<string, unknown>
    const other = Object.keys(rest)
    if (other.length > 0) throw invalid(['lora'], `lora has no ${other.join(', ')}; it takes ${LORA.join(', ')}`)
    if (!Number.isSafeInteger(rank) || (rank as number) < 1 || (rank as number) > 4096) {
      throw invalid(['lora'], `lora.rank must be an integer from 1 to 4096; found ${show(rank)}`)
    }
    if (alpha !== undefined && !(Number.isFinite(alpha) && (alpha as number) > 0)) {
      throw invalid(['lora'], `lora.alpha must be a number above 0; found ${show(alpha)}`)
    }
    if (
      targets !== undefined &&
      !(Array.isArray(targets) && targets.length > 0 && targets.every((t) => LORA_TARGETS.includes(t)))
    ) {
      throw invalid(['lora'], `lora.targets must be a list of ${LORA_TARGETS.join(', ')}; found ${show(targets)}`)
    }
  }
  if (optim_args !== null) {
    if (optim !== 'adafactor') {
      throw invalid(
        ['optim_args', 'optim'],
        "optim_args are Adafactor's; AdamW's are adam_beta1, adam_beta2 and adam_epsilon",
      )
    }
    const other = Object.keys(optim_args).filter((name) => !ADAFACTOR.includes(name))
    if (other.length > 0) {
      throw invalid(['optim_args'], `optim_args has no ${other.join(', ')}; it takes ${ADAFACTOR.join(', ')}`)
    }
  }
  for (const [name, value] of Object.entries(lr_scheduler_kwargs ?? {})) {
    if (!Number.isFinite(value)) {
      throw invalid(['lr_scheduler_kwargs'], `lr_scheduler_kwargs.${name} must be a number; found ${show(value)}`)
    }
  }
}

function check_together(
  args: CompleteArguments,
  context: ArgumentContext,
  was_given: (name: keyof TrainingArguments) => boolean,
): void {
  const evaluates = args.eval_strategy !== 'no'
  const refuse = (when: boolean, options: (keyof TrainingArguments)[], message: string) => {
    if (when) throw invalid(options, message)
  }
  refuse(
    (evaluates || args.eval_on_start) && !context.has_eval_dataset,
    ['eval_strategy'],
    `eval_strategy is '${args.eval_strategy}', but there is no eval_dataset`,
  )
  refuse(
    !context.has_store && args.save_strategy !== 'no',
    ['save_strategy', 'output_dir'],
    `save_strategy is '${args.save_strategy}', but there is no output_dir to save to`,
  )
  refuse(
    args.report && !context.has_store,
    ['report', 'output_dir'],
    'report asks for a page, but there is no output_dir to write it to',
  )
  refuse(
    args.save_strategy === 'best' && !evaluates,
    ['save_strategy', 'eval_strategy'],
    "save_strategy is 'best', but eval_strategy is 'no', so that nothing is ever best",
  )
  refuse(
    args.early_stopping_patience !== null && !evaluates,
    ['early_stopping_patience', 'eval_strategy'],
    "early_stopping_patience counts evaluations, but eval_strategy is 'no'",
  )
  if (args.load_best_model_at_end) {
    refuse(
      !evaluates,
      ['load_best_model_at_end', 'eval_strategy'],
      "load_best_model_at_end needs evaluations, but eval_strategy is 'no'",
    )
    refuse(
      args.save_strategy === 'no',
      ['load_best_model_at_end', 'save_strategy'],
      "load_best_model_at_end needs checkpoints, but save_strategy is 'no'",
    )
    refuse(
      args.save_strategy !== 'best' && args.save_strategy !== args.eval_strategy,
      ['load_best_model_at_end', 'save_strategy', 'eval_strategy'],
      `load_best_model_at_end needs a checkpoint of every evaluation, but save_strategy is '${args.save_strategy}' and eval_strategy is '${args.eval_strategy}'`,
    )
    refuse(
      args.save_strategy === 'steps' && args.save_steps % (args.eval_steps as number) !== 0,
      ['load_best_model_at_end', 'save_steps', 'eval_steps'],
      `load_best_model_at_end needs save_steps (${args.save_steps}) to be a multiple of eval_steps (${args.eval_steps})`,
    )
  }
  const metric = args.metric_for_best_model
  refuse(
    metric !== null &&
      !args.predict_with_generate &&
      !context.has_compute_metrics &&
      !['loss', 'cross_entropy', 'token_accuracy', 'perplexity'].includes(metric),
    ['metric_for_best_model', 'predict_with_generate'],
    `metric_for_best_model is '${metric}', which is known only with predict_with_generate: true`,
  )
  refuse(
    args.metrics !== null && !args.predict_with_generate,
    ['metrics', 'predict_with_generate'],
    'metrics are of generated texts and need predict_with_generate: true',
  )
  refuse(
    was_given('selective_precision') && !args.selective_precision && !args.bf16,
    ['selective_precision', 'bf16'],
    'selective_precision is of no meaning without bf16: true',
  )
  refuse(
    (was_given('soft_label_weight') || was_given('temperature')) && !context.has_teacher,
    ['soft_label_weight', 'temperature'],
    'soft_label_weight and temperature are about a teacher, and there is none',
  )
  refuse(
    args.lora !== null && args.trainable !== 'all',
    ['lora', 'trainable'],
    `lora trains adapters and leaves all weights as they are; trainable: '${args.trainable}' contradicts it`,
  )
  refuse(
    args.streaming && args.max_steps === -1,
    ['streaming', 'max_steps'],
    'streaming does not know how many examples there are and needs max_steps',
  )
  refuse(
    args.streaming &&
      args.train_sampling_strategy === 'group_by_length' &&
      args.shuffle_buffer_size < args.per_device_train_batch_size,
    ['shuffle_buffer_size', 'per_device_train_batch_size'],
    'shuffle_buffer_size must hold at least one batch',
  )
  refuse(
    args.max_steps !== -1 && args.warmup_steps > args.max_steps,
    ['warmup_steps', 'max_steps'],
    `warmup_steps (${args.warmup_steps}) are more than max_steps (${args.max_steps})`,
  )
  refuse(
    args.lr_scheduler_type === 'constant' && args.warmup_steps > 0,
    ['lr_scheduler_type', 'warmup_steps'],
    "lr_scheduler_type 'constant' has no warmup_steps; take 'constant_with_warmup'",
  )
  refuse(
    (was_given('noise_density') || was_given('mean_noise_span_length')) && args.objective !== 'span_corruption',
    ['noise_density', 'mean_noise_span_length', 'objective'],
    "noise_density and mean_noise_span_length are of objective: 'span_corruption'",
  )
}

function invalid(options: string[], message: string): OptionError {
  return new OptionError('INVALID_OPTION', `${message}.`, { details: { options } })
}

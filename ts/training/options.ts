/** From complete arguments to the options that the backend trains with. */

import type { OptimizerOptions, ParameterGroup, TrainingOptions } from '../backend/training_contract.js'
import type { CompleteArguments } from './arguments.js'

/** Norms are not decayed, as the reference's `Trainer` has it. */
const NO_DECAY: ParameterGroup[] = [{ patterns: ['*layer_norm*'], weight_decay: 0 }]

export function training_options(args: CompleteArguments, teacher: number | undefined): TrainingOptions {
  const given = <T>(name: string, value: T | null) => (value === null ? {} : { [name]: value })
  return {
    precision: args.bf16 ? 'bfloat16' : 'float32',
    selective_precision: args.selective_precision,
    trainable: args.trainable,
    ...given('frozen', args.frozen),
    lora: args.lora,
    ...given('dropout_rate', args.dropout_rate),
    ...given('expert_dropout_rate', args.expert_dropout_rate),
    ...given('router_jitter_noise', args.router_jitter_noise),
    label_smoothing: args.label_smoothing_factor,
    logits_z_loss_coef: args.logits_z_loss_coef,
    ...given('router_z_loss_coef', args.router_z_loss_coef),
    ...given('router_aux_loss_coef', args.router_aux_loss_coef),
    gradient_checkpointing: args.gradient_checkpointing,
    seed: args.seed,
    optimizer: optimizer_options(args),
    ...given('parameter_groups', args.parameter_groups ?? (args.weight_decay > 0 ? NO_DECAY : null)),
    ...(teacher !== undefined && {
      teacher,
      soft_label_weight: args.soft_label_weight,
      temperature: args.temperature,
    }),
  }
}

function optimizer_options(args: CompleteArguments): OptimizerOptions {
  if (args.optim === 'adafactor') {
    // As the reference's `Trainer`: the schedule's learning rate is used, unless asked otherwise.
    return {
      type: 'adafactor',
      scale_parameter: false,
      relative_step: false,
      weight_decay: args.weight_decay,
      ...(args.optim_args as object | null),
    }
  }
  return {
    type: 'adamw',
    beta1: args.adam_beta1,
    beta2: args.adam_beta2,
    eps: args.adam_epsilon,
    weight_decay: args.weight_decay,
  }
}

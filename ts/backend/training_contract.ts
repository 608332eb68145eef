/**
 * The operations of training, a part of the contract (`contract.ts`). A training changes the weights of the model it was
 * started on in place: the model's handle generates, evaluates and saves what has been learned so far.
 */

/** Decoupled weight decay (reference: `torch.optim.AdamW`). */
export interface AdamWOptions {
  type: 'adamw'
  /** Default 0.9. */
  beta1?: number
  /** Default 0.999. */
  beta2?: number
  /** Default 1e-8. */
  eps?: number
  /** Default 0, as the reference's `TrainingArguments`. */
  weight_decay?: number
}

/** Factored second moments (reference: `transformers.optimization.Adafactor`, whose defaults these are). */
export interface AdafactorOptions {
  type: 'adafactor'
  /** Default [1e-30, 1e-3]. */
  eps?: [number, number]
  /** Default 1. */
  clip_threshold?: number
  /** Default -0.8. */
  decay_rate?: number
  /** Default none. */
  beta1?: number | null
  weight_decay?: number
  /** Default true: a parameter's step is relative to its root mean square. */
  scale_parameter?: boolean
  /** Default true: the learning rate is Adafactor's own and `learning_rate` of the update is not used. */
  relative_step?: boolean
  warmup_init?: boolean
}

export type OptimizerOptions = AdamWOptions | AdafactorOptions

/** Low-rank adapters: `W + (alpha / rank) · B · A` with `W` frozen (Hu et al., arXiv 2106.09685; layout of PEFT). */
export interface LoraOptions {
  rank: number
  /** Default 2 · rank. */
  alpha?: number
  /** Projections that get one. Default q and v, as PEFT has it for T5. */
  targets?: ('q' | 'k' | 'v' | 'o' | 'wi' | 'wi_0' | 'wi_1' | 'wo')[]
}

/** Options of parameters whose names match one of `patterns` (`*` stands for any characters); the first group that matches counts. */
export interface ParameterGroup {
  patterns: string[]
  /** Multiplies the learning rate. Default 1. */
  learning_rate_scale?: number
  weight_decay?: number
}

export interface TrainingOptions {
  /**
   * What activations and weights are rounded to where they are multiplied. `bfloat16` keeps master weights, gradients,
   * the optimiser's state and, with `selective_precision`, the router in float32 (paper, section 2.4). Default float32.
   */
  precision?: 'float32' | 'bfloat16'
  /** Default true. False rounds the router's inputs, weights and logits to bfloat16 as well. */
  selective_precision?: boolean
  /** Default `all`. `non_expert`: everything but the experts (ST-MoE); `expert`: the experts alone. */
  trainable?: 'all' | 'non_expert' | 'expert'
  /** Parameters that stay as they are, by pattern (`*` stands for any characters): `*.router.*` freezes the routers. */
  frozen?: string[]
  lora?: LoraOptions | null
  /** Defaults: the config's `dropout_rate`, the same inside experts, and its `router_jitter_noise`. */
  dropout_rate?: number
  expert_dropout_rate?: number
  router_jitter_noise?: number
  /** Default 0. */
  label_smoothing?: number
  /** Weight of `logsumexp(logits)²` (t5x). Default 0. */
  logits_z_loss_coef?: number
  /** Defaults: the config's. */
  router_z_loss_coef?: number
  router_aux_loss_coef?: number
  /** Keeps only each block's input and computes the rest again on the way back. Default false. */
  gradient_checkpointing?: boolean
  /** Of dropout and jitter, together with the number of the step. Default 0. */
  seed?: number
  optimizer?: OptimizerOptions
  parameter_groups?: ParameterGroup[]
  /** A model of the same vocabulary whose predictions are learned beside the labels (paper, section 4.2). */
  teacher?: number
  /** Default 0.25: `(1 - soft) · cross entropy + soft · distillation loss`. */
  soft_label_weight?: number
  /** Default 1. */
  temperature?: number
}

/** How one sparse layer spread the tokens of a step. */
export interface LayerLoad {
  stack: 'encoder' | 'decoder'
  layer: number
  /** Tokens that chose each expert. */
  load: number[]
  /** How many of them found their expert full. */
  dropped: number
}

/** What a forward pass with labels found. Losses are means over the batch's targets, as the reference's are. */
export interface StepReport {
  /** What is minimised: everything below with its coefficients. Not scaled by `loss_scale`. */
  loss: number
  /** With label smoothing, if any. */
  cross_entropy: number
  logits_z_loss: number
  distillation_loss: number
  encoder_z_loss: number
  encoder_aux_loss: number
  decoder_z_loss: number
  decoder_aux_loss: number
  /** Labels that count. */
  targets: number
  /** How many of them had the highest logit. */
  correct: number
  /** Tokens that went through the two stacks, padding left out. */
  tokens: number
  layers: LayerLoad[]
  /** What was not finite first, if anything: `cross_entropy`, `encoder.block.3`, … All gradients are cleared then. */
  non_finite: string | null
}

type Json = Record<string, unknown>

export interface TrainingOperations {
  /** Makes a model's weights trainable: float32, with a gradient beside each that is trained. Ends when it is released. */
  training_start: {
    request: { model: number; options: TrainingOptions }
    reply: { training: number; parameters: number; trainable_parameters: number; bytes: number; trainable: string[] }
  }
  /**
   * Forward and backward; gradients, times `loss_scale` (default 1), are added to those that are there. `step` numbers the
   * draws of dropout and jitter. Tensors in, int32: `input_ids`, `labels`, and by option `attention_mask`,
   * `decoder_input_ids` (default: labels shifted right), `decoder_attention_mask`.
   */
  training_step: { request: { training: number; step: number; loss_scale?: number }; reply: StepReport }
  /** The same without dropout, jitter and gradients. */
  training_evaluate: { request: { training: number }; reply: StepReport }
  /**
   * Clips gradients to a global norm, takes an optimiser's step and clears them. When a gradient is not finite nothing is
   * changed but the gradients cleared, `updated` is false and `non_finite` names the first parameter.
   */
  training_update: {
    request: { training: number; learning_rate: number; max_grad_norm?: number | null }
    reply: { updated: boolean; grad_norm: number; non_finite: string | null; updates: number }
  }
  /** Gradients by parameter name, float32, as they stand. All that are trained when `names` is left out. */
  training_gradients: { request: { training: number; names?: string[] }; reply: object }
  /** Clears gradients. */
  training_clear_gradients: { request: { training: number }; reply: object }
  /**
   * How a part of the training would be written, for `model_save_read`: the optimiser's state, or the adapters in PEFT's
   * layout. `metadata` goes into the file.
   */
  training_save_plan: {
    request: { training: number; part: 'optimizer' | 'adapters'; metadata?: Record<string, string> }
    reply: { plan: number; files: { name: string; size: number }[]; index?: string; total_size: number }
  }
  /** Takes over weights, adapters or the optimiser's state from an open checkpoint. All or nothing. */
  training_restore: {
    request: { training: number; checkpoint: number; part: 'weights' | 'optimizer' | 'adapters' }
    reply: Json
  }
  /** Adds the adapters to the weights and takes them away, so that the model stands alone. */
  training_merge_adapters: { request: { training: number }; reply: object }
}

/**
 * The options of a training, named after the reference's `TrainingArguments` and `Seq2SeqTrainingArguments`
 * (transformers 5.18.0), with those of the paper beside them. What each may be is in `argument_table.ts`.
 */

import type { LoraOptions, ParameterGroup } from '../backend/training_contract.js'
import type { GenerationOptions } from '../generation/options.js'
import type { MetricName } from './metrics/names.js'
import type { SchedulerType } from './schedule.js'

/** The learning rate's factor at `step` (0 at the first update). */
export type ScheduleFunction = (step: number, of: { total_steps: number; warmup_steps: number }) => number

export interface TrainingArguments {
  /**
   * Where checkpoints, log and report go: a folder in Node, a folder of the origin private file system in browsers.
   * Default none: nothing is kept but the model in memory.
   */
  output_dir?: string | null

  /** Rows of a batch. Default 8. */
  per_device_train_batch_size?: number
  /** Default 8. */
  per_device_eval_batch_size?: number
  /** Batches whose gradients are added up before a step, each weighted by its targets. Default 1. */
  gradient_accumulation_steps?: number
  /**
   * Fills batches by tokens (rows × (longest source + longest target)) instead of by rows. Default none.
   */
  max_tokens_per_batch?: number | null
  /** `group_by_length`: shuffled, sorted within groups of 32 batches, batches shuffled. Default `random`. */
  train_sampling_strategy?: 'random' | 'sequential' | 'group_by_length'
  /** Leaves out an epoch's last batch where it is not full. Default false. */
  dataloader_drop_last?: boolean
  /** Batches that are made ready while the model works. Default 2. */
  dataloader_prefetch_factor?: number
  /** Reads an iterable of examples as it goes instead of holding it in memory. Needs `max_steps`. Default false. */
  streaming?: boolean
  /** Examples among which a streamed data set is shuffled. Default 4096. */
  shuffle_buffer_size?: number

  /** Default 5e-5. */
  learning_rate?: number
  /** Default 3. */
  num_train_epochs?: number
  /** Updates in all; wins over `num_train_epochs`. Default -1: as many as the epochs have. */
  max_steps?: number
  /** A schedule's name, or a function. Default `linear`. */
  lr_scheduler_type?: SchedulerType | ScheduleFunction
  /** `num_cycles`, `power`, `lr_end`, `timescale`, by schedule. */
  lr_scheduler_kwargs?: Record<string, number> | null
  /** Updates until the learning rate is reached; below 1: their part of all. Default 0. */
  warmup_steps?: number
  /** Default `adamw`. */
  optim?: 'adamw' | 'adamw_torch' | 'adafactor'
  /** Of Adafactor: `eps`, `clip_threshold`, `decay_rate`, `beta1`, `scale_parameter`, `relative_step`, `warmup_init`. */
  optim_args?: Record<string, unknown> | null
  /** Decoupled; norms have none. Default 0. */
  weight_decay?: number
  /** Default 0.9. */
  adam_beta1?: number
  /** Default 0.999. */
  adam_beta2?: number
  /** Default 1e-8. */
  adam_epsilon?: number
  /** Gradients are scaled down to this global norm; null leaves them. Default 1. */
  max_grad_norm?: number | null
  /** Learning rates and weight decay by parameter name. Default: no weight decay on norms. */
  parameter_groups?: ParameterGroup[] | null

  /** Multiplies in bfloat16; master weights, gradients and the optimiser's state stay float32. Default false. */
  bf16?: boolean
  /** With `bf16`: keeps the router in float32 (paper, section 2.4). Default true. */
  selective_precision?: boolean
  /** Computes a block's inner values again on the way back instead of keeping them. Default false. */
  gradient_checkpointing?: boolean

  /** Default 0. */
  label_smoothing_factor?: number
  /** Weight of `logsumexp(logits)²` (t5x). Default 0. */
  logits_z_loss_coef?: number
  /** Default: the config's. */
  router_z_loss_coef?: number | null
  /** Of load balancing. Default: the config's. */
  router_aux_loss_coef?: number | null
  /** Default: the config's. */
  router_jitter_noise?: number | null
  /** Default: the config's. */
  dropout_rate?: number | null
  /** Dropout inside experts (paper: 0.4 with 0.1 elsewhere, for fine-tuning). Default: `dropout_rate`. */
  expert_dropout_rate?: number | null

  /** What is trained: everything, all but the experts (ST-MoE), or the experts alone. Default `all`. */
  trainable?: 'all' | 'non_expert' | 'expert'
  /** Parameters that stay as they are: names in which `*` stands for any characters. `*.router.*` freezes the routers. */
  frozen?: string[] | null
  /** Trains low-rank adapters instead of the weights. */
  lora?: LoraOptions | null
  /** Of the teacher's predictions, beside the labels (paper, section 4.2). Default 0.25. */
  soft_label_weight?: number
  /** Of the distillation's softmax. Default 1. */
  temperature?: number

  /** Of dropout, jitter and the data's order. Default 42. */
  seed?: number
  /** Of the data's order alone. Default `seed`. */
  data_seed?: number | null

  /** `seq2seq`: pairs. `span_corruption`: texts, with T5's pre-training objective. Default `seq2seq`. */
  objective?: 'seq2seq' | 'span_corruption'
  /** Tokens of a span-corrupted text before corruption, in a segment. Default 512, or the model's where it is less. */
  max_source_length?: number | null
  /** Longer targets are cut. Default 512, or the tokenizer's `model_max_length` where it is less. */
  max_target_length?: number | null
  /** Of span corruption. Default 0.15. */
  noise_density?: number
  /** Of span corruption. Default 3. */
  mean_noise_span_length?: number
  /** Column of the source. Default: the first of `source`, `input`, `text`, … that a row has. */
  source_column?: string | null
  /** Column of the target. Default: the first of `target`, `output`, `label`, … that a row has. */
  target_column?: string | null
  /** Put before each source: `summarize: `. Default none. */
  source_prefix?: string
  /** Rows that are no pair of texts stop the training, or are counted and left out. Default `error`. */
  on_bad_row?: 'error' | 'skip'

  /** Default `no`, or `steps` where `eval_steps` is given. */
  eval_strategy?: 'no' | 'steps' | 'epoch'
  /** Updates between evaluations. Default `logging_steps`. */
  eval_steps?: number | null
  /** Evaluates before the first step too. Default false. */
  eval_on_start?: boolean
  /** Evaluates what the model writes, not its loss alone. Default false. */
  predict_with_generate?: boolean
  /** Longest output of an evaluation's generation. Default: the generation config's. */
  generation_max_length?: number | null
  /** Default: the generation config's. */
  generation_num_beams?: number | null
  /** Any generation options, for evaluations. */
  generation_config?: GenerationOptions | null
  /** Metrics of generated texts. Default `exact_match` and `char_error_rate`. */
  metrics?: MetricName[] | null

  /** Default `no` without `output_dir`, else `steps`. */
  save_strategy?: 'no' | 'steps' | 'epoch' | 'best'
  /** Updates between checkpoints. Default 500. */
  save_steps?: number
  /** Checkpoints kept; the best one and the newest are never removed. Default: all. */
  save_total_limit?: number | null
  /** Default false. */
  load_best_model_at_end?: boolean
  /** Default `loss` where the best model is asked for. With or without `eval_` in front. */
  metric_for_best_model?: string | null
  /** Default: false for losses and error rates. */
  greater_is_better?: boolean | null
  /** Evaluations without an improvement after which training ends. Default none. */
  early_stopping_patience?: number | null
  /** An improvement must be larger than this. Default 0. */
  early_stopping_threshold?: number

  /** Default `steps`. */
  logging_strategy?: 'no' | 'steps' | 'epoch'
  /** Updates between log entries. Default 10. */
  logging_steps?: number
  /** Default false. */
  logging_first_step?: boolean
  /** Writes `report.html` beside the checkpoints at the end. Default false. */
  report?: boolean
}

/** Options with every default filled in. */
export type CompleteArguments = {
  [Name in keyof TrainingArguments]-?: Exclude<TrainingArguments[Name], undefined>
} & {
  eval_strategy: 'no' | 'steps' | 'epoch'
}

/** `adapter_config.json` of LoRA adapters, as PEFT 0.18.1 writes and reads it. */

import type { LoraOptions } from '../backend/contract.js'
import { CheckpointError, ConfigError } from '../errors.js'
import { is_record, show } from '../utils/json.js'

export const ADAPTER_CONFIG = 'adapter_config.json'

/** What is read of it. */
export interface AdapterConfig {
  /** The name or path of the model that it was trained on, if it says. */
  base: string | null
  revision: string | null
  /** Null where ranks differ. */
  rank: number | null
  alpha: number
  alpha_pattern: Record<string, number>
  rank_stabilised: boolean
}

/** Options that make something else of an adapter than `W + alpha / rank · B · A`, and the values without effect. */
const PLAIN: Readonly<Record<string, readonly unknown[]>> = {
  bias: ['none'],
  fan_in_fan_out: [false],
  layer_replication: [],
  lora_bias: [false],
  modules_to_save: [],
  target_parameters: [],
  trainable_token_indices: [],
  use_dora: [false],
  use_qalora: [false],
}

/**
 * @throws {ConfigError} for a value of the wrong type; {CheckpointError} `CHECKPOINT_UNSUPPORTED` for another kind of
 * adapter, naming the fields that make it one.
 */
export function parse_adapter_config(value: unknown): AdapterConfig {
  const invalid = (expected: string) => new ConfigError(`${ADAPTER_CONFIG} ${expected}.`, { details: { expected } })
  if (!is_record(value)) throw invalid('must be an object')
  if (value.peft_type !== 'LORA') throw unsupported(`its peft_type is ${show(value.peft_type)}, not "LORA"`)
  const given = (field: string) => {
    const found = value[field]
    const empty = found === undefined || found === null || (Array.isArray(found) && found.length === 0)
    return !empty && !PLAIN[field]?.includes(found)
  }
  const strange = Object.keys(PLAIN).filter(given)
  if (strange.length > 0) {
    throw unsupported(`it sets ${strange.map((field) => `${field} to ${show(value[field])}`).join(', ')}`)
  }
  const text = (field: string) => {
    const found = value[field] ?? null
    if (found !== null && typeof found !== 'string') throw invalid(`has the ${field} ${show(found)}, not a text`)
    return found === '' ? null : found
  }
  const { r, lora_alpha = 8, rank_pattern = {}, alpha_pattern = {} } = value
  if (!Number.isSafeInteger(r) || (r as number) < 1) throw invalid(`has the r ${show(r)}, not an integer of at least 1`)
  if (!is_float32(lora_alpha)) throw invalid(`has the lora_alpha ${show(lora_alpha)}, not a number`)
  for (const [name, pattern] of Object.entries({ rank_pattern, alpha_pattern })) {
    if (pattern === null) continue
    if (!is_record(pattern) || !Object.values(pattern).every(is_float32)) {
      throw invalid(`has a ${name} that is no object of numbers`)
    }
    // PEFT takes them for regular expressions; names are what it is used with.
    const odd = name === 'alpha_pattern' ? Object.keys(pattern).find((key) => !/^[\w.]+$/.test(key)) : undefined
    if (odd !== undefined)
      throw unsupported(`its alpha_pattern has ${show(odd)}, which is not the end of a module's name`)
  }
  return {
    base: text('base_model_name_or_path'),
    revision: text('revision'),
    // Where ranks differ, each adapter's shape says its own.
    rank: Object.keys(rank_pattern ?? {}).length === 0 ? (r as number) : null,
    alpha: lora_alpha as number,
    alpha_pattern: (alpha_pattern ?? {}) as Record<string, number>,
    rank_stabilised: value.use_rslora === true,
  }
}

/** What the weights' type can hold: what is larger would make them infinite. */
function is_float32(value: unknown): boolean {
  return typeof value === 'number' && Number.isFinite(Math.fround(value))
}

function unsupported(what: string): CheckpointError {
  return new CheckpointError(
    'CHECKPOINT_UNSUPPORTED',
    `The adapter is of a kind that is not supported: ${what}. Supported are LoRA adapters on weights; merge it with PEFT.`,
  )
}

/**
 * The text of an `adapter_config.json`. `modules`: full names of those that have adapters, which name them where the ends
 * of names (`targets`) would mean others too.
 */
export function adapter_config_text(
  { rank, alpha = 2 * rank, targets = ['q', 'v'] }: LoraOptions,
  base: string | null,
  modules: readonly string[] | null,
): string {
  const config = {
    alpha_pattern: {},
    base_model_name_or_path: base,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha: alpha,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: 'LORA',
    r: rank,
    rank_pattern: {},
    revision: null,
    target_modules: modules ?? targets,
    // PEFT 0.18.1 asks a model of a task for methods that those of transformers 5 do not have.
    task_type: null,
    use_dora: false,
    use_rslora: false,
  }
  return `${JSON.stringify(config, null, 2)}\n`
}

/** What a checkpoint's tensor names and shapes say about its model. Needs no weights and no config. */

import type { TensorEntry } from '../backend/contract.js'

export interface StackSummary {
  layers: number
  /** Indices of the sparse layers. */
  sparse_layers: number[]
}

export interface ParameterSummary {
  /** Every parameter once: copies of tied embeddings that a checkpoint stores are not counted again. */
  parameters: number
  /** Those that one token passes through: one expert per sparse layer. */
  parameters_active: number
  /** Those inside experts. */
  parameters_experts: number
  /** Experts per sparse layer; 0 where there are none. */
  experts: number
  encoder: StackSummary
  decoder: StackSummary
}

const BLOCK = /^(encoder|decoder)\.block\.(\d+)\./
const EXPERT = /^((?:encoder|decoder)\.block\.\d+\..*\.experts)\.expert_(\d+)\./

/** Names under which the input embedding may be stored; copies of one tensor unless the model is untied. */
const EMBEDDINGS = ['shared.weight', 'encoder.embed_tokens.weight', 'decoder.embed_tokens.weight']
/** Names of the head. With tied embeddings it is the embedding again; the second one is stored by models whose head is their own. */
const HEAD = 'lm_head.weight'
const OWN_HEAD = 'decoder.lm_head.weight'

/**
 * Counts parameters and layers.
 *
 * @param tied Whether the head is the embedding: the config's `tie_word_embeddings`. Left out, it is, unless the head is
 * stored under the name that only models with their own use. False: every stored embedding is a matrix of its own.
 */
export function summarize_parameters(
  tensors: readonly Pick<TensorEntry, 'name' | 'shape'>[],
  tied?: boolean,
): ParameterSummary {
  const copies = new Set<string>()
  if (tied !== false) {
    for (const name of EMBEDDINGS.filter((name) => tensors.some((tensor) => tensor.name === name)).slice(1))
      copies.add(name)
    copies.add(HEAD)
  }
  if (tied === true) copies.add(OWN_HEAD)

  const layers = { encoder: new Set<number>(), decoder: new Set<number>() }
  const banks = new Map<string, Set<number>>()
  const bank_sizes = new Map<string, number>()
  let parameters = 0
  let parameters_experts = 0
  for (const { name, shape } of tensors) {
    if (copies.has(name)) continue
    const size = shape.reduce((product, length) => product * length, 1)
    parameters += size
    const block = BLOCK.exec(name)
    if (block !== null) layers[block[1] as 'encoder' | 'decoder'].add(Number(block[2]))
    const expert = EXPERT.exec(name)
    if (expert === null) continue
    const bank = expert[1] as string
    parameters_experts += size
    bank_sizes.set(bank, (bank_sizes.get(bank) ?? 0) + size)
    const members = banks.get(bank) ?? new Set()
    members.add(Number(expert[2]))
    banks.set(bank, members)
  }

  let active = parameters - parameters_experts
  for (const [bank, size] of bank_sizes) active += size / (banks.get(bank) as Set<number>).size
  return {
    parameters,
    parameters_active: Math.round(active),
    parameters_experts,
    experts: Math.max(0, ...[...banks.values()].map((members) => members.size)),
    encoder: stack('encoder', layers.encoder, banks),
    decoder: stack('decoder', layers.decoder, banks),
  }
}

function stack(name: string, layers: Set<number>, banks: Map<string, unknown>): StackSummary {
  const sparse = [...banks.keys()].filter((bank) => bank.startsWith(`${name}.`))
  return {
    layers: layers.size,
    sparse_layers: sparse.map((bank) => Number((BLOCK.exec(`${bank}.`) as RegExpExecArray)[2])).sort((a, b) => a - b),
  }
}

/** The fields of a config that decide how many parameters its model has. */
export interface ParameterDimensions {
  vocab_size: number
  d_model: number
  d_kv: number
  d_ff: number
  num_heads: number
  num_layers: number
  num_decoder_layers?: number | null
  num_experts: number
  encoder_sparse_step: number
  decoder_sparse_step: number
  relative_attention_num_buckets: number
  router_bias?: boolean
  dense_act_fn?: string
  tie_word_embeddings?: boolean
}

/** How many parameters a model of this config has. Exact up to 2^53, and infinite rather than wrong far above. */
export function count_parameters(config: ParameterDimensions): number {
  const { d_model, d_ff, d_kv, num_heads, num_experts, vocab_size } = config
  const attention = 4 * d_model * d_kv * num_heads
  const matrices = config.dense_act_fn?.startsWith('gated-') ? 3 : 2
  const dense = matrices * d_model * d_ff
  const router = num_experts * d_model + (config.router_bias ? num_experts : 0)
  const sparse = router + num_experts * dense
  const stack_of = (layers: number, step: number, attentions: number) => {
    const sparse_layers = count_sparse(layers, step)
    const norms = (attentions + 1) * d_model
    const outside_blocks = config.relative_attention_num_buckets * num_heads + d_model
    return (
      layers * (attentions * attention + norms) +
      sparse_layers * sparse +
      (layers - sparse_layers) * dense +
      outside_blocks
    )
  }
  return (
    // Untied: the shared embedding, each stack's own, and the head.
    vocab_size * d_model * (config.tie_word_embeddings === false ? 4 : 1) +
    stack_of(config.num_layers, config.encoder_sparse_step, 1) +
    stack_of(config.num_decoder_layers ?? config.num_layers, config.decoder_sparse_step, 2)
  )
}

/** Layer i is sparse when the step is 1, or when i % step is 1; a step of 0 makes none sparse. */
function count_sparse(layers: number, step: number): number {
  if (step === 1) return layers
  return step > 1 && layers > 1 ? Math.ceil((layers - 1) / step) : 0
}

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

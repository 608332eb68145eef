/** `generate`: runs a session to its end and gives its result the reference's form. */

import type { WireTensor } from '../backend/contract.js'
import { numbered, unwire_all } from '../backend/wire.js'
import { InternalError } from '../errors.js'
import { ModelOutput } from '../models/outputs.js'
import type { Tensor } from '../tensor.js'
import { type GenerationHost, join_arguments, type PreparedGeneration, prepare_generation } from './prepare.js'
import { GenerationSession, type StepEvent } from './session.js'

/** What `generate` returns with `return_dict_in_generate`. A field is there if it was asked for. */
export class GenerateOutput extends ModelOutput {
  /** int64 [sequences, tokens], the decoder's first tokens included, padded with the padding token. */
  declare sequences: Tensor<'int64'>
  /** Beam search: the sequences' final scores, float32 [sequences]. */
  declare sequences_scores?: Tensor
  /** Per step, the processed scores, float32 [sequences or beams, vocab_size]. */
  declare scores?: Tensor[]
  /** Per step, the model's own logits. */
  declare logits?: Tensor[]
  /** Beam search: the beam that each token of each sequence came from, int32. */
  declare beam_indices?: Tensor
  /** Of the encoder, per layer, as `forward` returns them. */
  declare encoder_hidden_states?: Tensor[]
  declare encoder_attentions?: Tensor[]
  declare encoder_router_logits?: Tensor[]
  /** Of the decoder, per step and layer: float32 [sequences or beams, tokens, d_model]. */
  declare decoder_hidden_states?: Tensor[][]
  /** float32 [sequences or beams, heads, queries, keys]. */
  declare decoder_attentions?: Tensor[][]
  declare cross_attentions?: Tensor[][]
  /** float32 [sequences or beams, tokens, experts]. */
  declare decoder_router_logits?: Tensor[][]
  /** Per sparse layer, int32 [rows, tokens]: the expert that took each token that the encoder read. */
  declare encoder_routes?: Tensor[]
  /** The same for each token that the decoder read, the sequences without their last; -2 past a row's end. */
  declare decoder_routes?: Tensor[]
}

/** Outputs that come for every step, and in each for every layer. */
const PER_STEP: ReadonlySet<string> = new Set([
  'decoder_hidden_states',
  'decoder_attentions',
  'cross_attentions',
  'decoder_router_logits',
])

export async function generate(
  host: GenerationHost,
  first: unknown,
  second?: unknown,
): Promise<Tensor<'int64'> | GenerateOutput> {
  const prepared = prepare_generation(host, join_arguments(first, second))
  const { streamer } = prepared
  const session = await GenerationSession.start(host, prepared)
  try {
    if (streamer !== null) await streamer.put(expand(prepared.prompt, session.rows))
    for (;;) {
      const event = await session.step(streamer === null)
      if (streamer !== null && event.tokens.length > 0) await streamer.put(by_row(event, session.rows))
      if (event.done) break
    }
    const { reply, tensors } = await session.finish()
    if (streamer !== null) await streamer.end()
    const result = to_result(prepared, tensors)
    if (reply.profile !== undefined && result instanceof GenerateOutput) result.profile = reply.profile
    return result
  } finally {
    await session.cancel()
  }
}

function to_result(prepared: PreparedGeneration, tensors: WireTensor[]): Tensor<'int64'> | GenerateOutput {
  const found = unwire_all(tensors)
  const sequences = found.get('sequences') as Tensor<'int64'> | undefined
  if (sequences === undefined) throw new InternalError('The engine gave no sequences.')
  if (!prepared.return_dict) return sequences
  const output = new GenerateOutput()
  output.sequences = sequences
  for (const name of ['sequences_scores', 'beam_indices'] as const) {
    const tensor = found.get(name)
    if (tensor !== undefined) output[name] = tensor
  }
  for (const name of prepared.recorded) {
    Object.assign(output, { [name]: PER_STEP.has(name) ? per_step(found, name) : numbered(found, name) })
  }
  return output
}

function per_step(found: ReadonlyMap<string, Tensor>, name: string): Tensor[][] {
  const steps: Tensor[][] = []
  for (let step = 0; ; step++) {
    const layers = numbered(found, `${name}.${step}`)
    if (layers.length === 0) return steps
    steps.push(layers)
  }
}

/** The prompt of every sequence: each row's, as often as it has sequences. */
function expand(prompt: readonly number[][], rows: number): bigint[][] {
  const copies = Math.max(1, Math.floor(rows / prompt.length))
  return Array.from({ length: rows }, (_, row) => (prompt[Math.floor(row / copies)] ?? []).map(BigInt))
}

/** One list of new tokens per sequence; empty for those that have ended. */
function by_row(event: StepEvent, rows: number): bigint[][] {
  const lists: bigint[][] = Array.from({ length: rows }, () => [])
  for (const [row, token] of event.tokens) lists[row]?.push(BigInt(token))
  return lists
}

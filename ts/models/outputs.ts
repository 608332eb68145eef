/** What models return, under the reference's names. A field is there if it was asked for, or always comes. */

import type { Profile, WireTensor } from '../backend/contract.js'
import { numbered, unwire_all } from '../backend/wire.js'
import type { Tensor } from '../tensor.js'
import type { PastKeyValues } from './past_key_values.js'

/** The base of all outputs. */
export class ModelOutput {
  /** With `profile: true`: where the time went. */
  declare profile?: Profile
  /** `Object.entries` without what is missing. */
  to_tuple(): unknown[] {
    return Object.values(this).filter((value) => value !== undefined)
  }
}

/** What `SwitchTransformersEncoderModel` returns. */
export class MoEModelOutput extends ModelOutput {
  /** float32 [rows, tokens, d_model]. */
  declare last_hidden_state: Tensor
  /** The embeddings, then each layer's output; the last is `last_hidden_state`. */
  declare hidden_states?: Tensor[]
  /** Per layer, float32 [rows, heads, tokens, tokens]. */
  declare attentions?: Tensor[]
  /** Per sparse layer, float32 [rows, tokens, experts]. */
  declare router_logits?: Tensor[]
  /** Per sparse layer, int32 [rows, tokens]: the expert that took each token, -1 where none had room. */
  declare routes?: Tensor[]
}

/** What a pass through both stacks returns, with or without a head. */
class Seq2SeqOutput extends ModelOutput {
  declare past_key_values?: PastKeyValues
  declare decoder_hidden_states?: Tensor[]
  declare decoder_attentions?: Tensor[]
  declare cross_attentions?: Tensor[]
  declare decoder_router_logits?: Tensor[]
  declare decoder_routes?: Tensor[]
  declare encoder_last_hidden_state?: Tensor
  declare encoder_hidden_states?: Tensor[]
  declare encoder_attentions?: Tensor[]
  declare encoder_router_logits?: Tensor[]
  declare encoder_routes?: Tensor[]
}

/** What `SwitchTransformersModel` returns. */
export class Seq2SeqMoEModelOutput extends Seq2SeqOutput {
  /** The decoder's, float32 [rows, tokens, d_model]. */
  declare last_hidden_state: Tensor
}

/** What `SwitchTransformersForConditionalGeneration` returns. */
export class Seq2SeqMoEOutput extends Seq2SeqOutput {
  /** Cross entropy, and the router losses where router logits were asked for: float32 scalar. Needs `labels`. */
  declare loss?: Tensor
  /** float32 [rows, tokens, vocab_size]. */
  declare logits: Tensor
  /** The loss without the routers' part. */
  declare cross_entropy?: Tensor
  declare encoder_z_loss?: Tensor
  declare decoder_z_loss?: Tensor
  declare encoder_aux_loss?: Tensor
  declare decoder_aux_loss?: Tensor
}

/** Outputs that are one tensor per layer. */
const PER_LAYER = /(?:^|_)(?:hidden_states|attentions|router_logits|routes)$/

/** Fills an output from the tensors that came back: `outputs` says which were asked for. */
export function fill_output<T extends ModelOutput>(
  output: T,
  outputs: readonly string[],
  tensors: readonly WireTensor[],
): T {
  const found = unwire_all(tensors)
  for (const name of outputs) {
    const value = found.get(name) ?? (PER_LAYER.test(name) ? numbered(found, name) : undefined)
    if (value !== undefined) Object.assign(output, { [name]: value })
  }
  return output
}

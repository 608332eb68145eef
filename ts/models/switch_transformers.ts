/** The models and modules of Switch Transformers, each usable alone, as in the reference. */

import type { WireTensor } from '../backend/contract.js'
import { unwire_all } from '../backend/wire.js'
import { InputError } from '../errors.js'
import { type GenerateOutput, generate } from '../generation/generate.js'
import type { GenerationOptions } from '../generation/options.js'
import type { GenerateArguments, GenerateExtras, IdsLike } from '../generation/prepare.js'
import { type StreamedToken, stream } from '../generation/stream.js'
import { type Tensor, to_ids } from '../tensor.js'
import {
  type ConditionalGenerationInputs,
  type EncoderInputs,
  type ForwardParts,
  module_inputs,
  prepare_forward,
  returned_cache,
  type Seq2SeqInputs,
} from './forward.js'
import { type FloatsInput, InputTensors, type MaskInput } from './inputs.js'
import { fill_output, type ModelOutput, MoEModelOutput, Seq2SeqMoEModelOutput, Seq2SeqMoEOutput } from './outputs.js'
import { PreTrainedModel } from './pretrained_model.js'
import { one_hot, router_probabilities } from './router_outputs.js'
import { type ScoreOutput, to_scores } from './scoring.js'

/** The base of the models that read tokens. */
export abstract class SwitchTransformersPreTrainedModel<Inputs, Output> extends PreTrainedModel<Inputs, Output> {
  /** @internal */
  protected async _run<T extends ModelOutput>(
    parts: ForwardParts,
    inputs: ConditionalGenerationInputs,
    output: T,
  ): Promise<T> {
    // Before the inputs are looked at: a disposed model says so whatever it is given.
    const model = this.handle.id
    const { request, tensors, past_key_values } = prepare_forward(parts, this.config, this.handle, inputs)
    const answer = await this.handle.call('model_forward', { model, ...request }, tensors)
    fill_output(output, request.outputs, answer.tensors)
    if (answer.reply.profile !== undefined) output.profile = answer.reply.profile
    const cache = returned_cache(this.handle, past_key_values, answer.reply)
    return cache === undefined ? output : Object.assign(output, { past_key_values: cache })
  }
}

export type ScoreInputs = Pick<
  ConditionalGenerationInputs,
  'input_ids' | 'inputs_embeds' | 'encoder_outputs' | 'attention_mask' | 'labels' | 'decoder_attention_mask'
>

/** Encoder, decoder and language-modelling head: the model that generates. */
export class SwitchTransformersForConditionalGeneration extends SwitchTransformersPreTrainedModel<
  ConditionalGenerationInputs,
  Seq2SeqMoEOutput
> {
  static override readonly architecture = 'SwitchTransformersForConditionalGeneration'

  override _call(inputs: ConditionalGenerationInputs): Promise<Seq2SeqMoEOutput> {
    return this.forward(inputs)
  }

  /**
   * The reference's forward pass. `loss` needs `labels`; with `output_router_logits` it includes the router losses.
   *
   * @throws {InputError} for ids, masks and shapes that do not fit.
   */
  async forward(inputs: ConditionalGenerationInputs): Promise<Seq2SeqMoEOutput> {
    return this._run({ decoder: true, head: true }, inputs, new Seq2SeqMoEOutput())
  }

  can_generate(): true {
    return true
  }

  /**
   * Generates token ids, int64 [sequences, tokens]; an object where `return_dict_in_generate` is set. Called with one
   * object of inputs and options, or with inputs and then options.
   *
   * @throws {OptionError} naming the option that is wrong, contradictory or not supported.
   */
  generate(args: GenerateArguments & { return_dict_in_generate: true }): Promise<GenerateOutput>
  generate(args: GenerateArguments & { return_dict_in_generate?: false | null }): Promise<Tensor<'int64'>>
  generate(
    inputs: GenerateArguments | IdsLike,
    options: GenerateArguments & { return_dict_in_generate: true },
  ): Promise<GenerateOutput>
  generate(inputs: GenerateArguments | IdsLike, options?: GenerateExtras & GenerationOptions): Promise<Tensor<'int64'>>
  async generate(inputs: unknown, options?: unknown): Promise<Tensor<'int64'> | GenerateOutput> {
    return generate(this, inputs, options)
  }

  /**
   * How probable `labels` are after the inputs: ln p per token and per row, -100 left out.
   *
   * @throws {InputError} for ids, masks and shapes that do not fit.
   */
  async score(inputs: ScoreInputs): Promise<ScoreOutput> {
    const model = this.handle.id
    if (!inputs?.labels) throw new InputError('score needs labels, the token ids whose probability is asked for.')
    const { request, tensors } = prepare_forward({ decoder: true, head: true }, this.config, this.handle, inputs)
    const outputs = ['token_log_probs']
    const answer = await this.handle.call('model_forward', { model, ...request, outputs }, tensors)
    const log_probs = unwire_all(answer.tensors).get('token_log_probs') as Tensor<'float32'>
    const { data } = to_ids(inputs.labels, 'labels', { vocab_size: this.config.vocab_size, allow: [-100] })
    return to_scores(log_probs, data)
  }

  /**
   * Generates and hands out each token as it is chosen: `for await (const { row, token, text } of model.stream(inputs,
   * { tokenizer }))`. Breaking off frees everything.
   */
  stream(
    inputs: GenerateArguments | IdsLike,
    options?: GenerateArguments,
  ): AsyncGenerator<StreamedToken, void, undefined> {
    return stream(this, inputs, options)
  }
}

/** Encoder and decoder without a head. */
export class SwitchTransformersModel extends SwitchTransformersPreTrainedModel<Seq2SeqInputs, Seq2SeqMoEModelOutput> {
  static override readonly architecture = 'SwitchTransformersModel'

  override _call(inputs: Seq2SeqInputs): Promise<Seq2SeqMoEModelOutput> {
    return this.forward(inputs)
  }

  /** The reference's forward pass. */
  async forward(inputs: Seq2SeqInputs): Promise<Seq2SeqMoEModelOutput> {
    return this._run({ decoder: true, head: false }, inputs, new Seq2SeqMoEModelOutput())
  }
}

/** The encoder alone. */
export class SwitchTransformersEncoderModel extends SwitchTransformersPreTrainedModel<EncoderInputs, MoEModelOutput> {
  static override readonly architecture = 'SwitchTransformersEncoderModel'

  override _call(inputs: EncoderInputs): Promise<MoEModelOutput> {
    return this.forward(inputs)
  }

  /** The reference's forward pass. */
  async forward(inputs: EncoderInputs): Promise<MoEModelOutput> {
    return this._run({ decoder: false, head: false }, inputs, new MoEModelOutput())
  }
}

/** What the modules take: hidden states float32 [rows, tokens, d_model], and a mask where padding is to take no place. */
export interface ModuleInputs {
  hidden_states: FloatsInput
  attention_mask?: MaskInput | null
}

abstract class SwitchTransformersModule<Output> extends PreTrainedModel<ModuleInputs | FloatsInput, Output> {
  /** @internal */
  protected async _run_module(call: string, inputs: unknown, outputs: string[]): Promise<Map<string, Tensor>> {
    const model = this.handle.id
    const { hidden_states, attention_mask } = module_inputs(call, inputs)
    const tensors = new InputTensors(this.config)
    const { dims } = tensors.states('hidden_states', hidden_states)
    if (attention_mask) tensors.mask('attention_mask', attention_mask, dims)
    const answer: { tensors: WireTensor[] } = await this.handle.call(
      'model_forward',
      { model, outputs },
      tensors.tensors,
    )
    return unwire_all(answer.tensors)
  }
}

export type RouterOutput = [
  expert_index: Tensor<'int64'>,
  router_probs: Tensor<'float32'>,
  router_logits: Tensor<'float32'>,
]

/** The router: which expert each token goes to, and how surely. */
export class SwitchTransformersTop1Router extends SwitchTransformersModule<RouterOutput> {
  static override readonly architecture = 'SwitchTransformersTop1Router'

  override _call(inputs: ModuleInputs | FloatsInput): Promise<RouterOutput> {
    return this.forward(inputs)
  }

  /** `[router_probs, router_logits]`, both float32 [rows, tokens, experts]. */
  async _compute_router_probabilities(
    inputs: ModuleInputs | FloatsInput,
  ): Promise<[router_probs: Tensor<'float32'>, router_logits: Tensor<'float32'>]> {
    const found = await this._run_module('_compute_router_probabilities', inputs, ['router_logits'])
    const logits = found.get('router_logits') as Tensor<'float32'>
    return [router_probabilities(logits, this.config.router_dtype), logits]
  }

  /**
   * `[expert_index, router_probs, router_logits]`: a one-hot int64 [rows, tokens, experts] without the tokens that found
   * no room, the chosen expert's probability float32 [rows, tokens, 1], and the logits float32 [rows, tokens, experts].
   */
  async forward(inputs: ModuleInputs | FloatsInput): Promise<RouterOutput> {
    const found = await this._run_module('forward', inputs, ['router_logits', 'routes'])
    const logits = found.get('router_logits') as Tensor<'float32'>
    const probs = router_probabilities(logits, this.config.router_dtype).max(-1, true)
    return [one_hot(found.get('routes') as Tensor<'int32'>, this.config.num_experts), probs, logits]
  }
}

/** A sparse layer's router and experts. */
export class SwitchTransformersSparseMLP extends SwitchTransformersModule<Tensor<'float32'>> {
  static override readonly architecture = 'SwitchTransformersSparseMLP'

  override _call(inputs: ModuleInputs | FloatsInput): Promise<Tensor<'float32'>> {
    return this.forward(inputs)
  }

  /** What the experts make of the hidden states, float32 [rows, tokens, d_model]; 0 for tokens that found no room. */
  async forward(inputs: ModuleInputs | FloatsInput): Promise<Tensor<'float32'>> {
    return (await this._run_module('forward', inputs, ['last_hidden_state'])).get(
      'last_hidden_state',
    ) as Tensor<'float32'>
  }
}

/** Text in, vectors out: `feature-extraction`. */

import { OptionError } from '../errors.js'
import { mean_pooling, normalize as normalized } from '../models/embedding.js'
import type { SwitchTransformersEncoderModel } from '../models/index.js'
import type { Tensor } from '../tensor.js'
import { show } from '../utils/json.js'
import { Pipeline } from './pipeline.js'

export interface FeatureExtractionOptions {
  /** `none` (default): every token's state; `mean`: their mean over each text, padding left out. */
  pooling?: 'none' | 'mean'
  /** Scale vectors to length 1. Default false. */
  normalize?: boolean
}

/** float32 [texts, tokens, d_model], or [texts, d_model] when pooled. */
export class FeatureExtractionPipeline extends Pipeline<
  SwitchTransformersEncoderModel,
  [texts: string | readonly string[], options?: FeatureExtractionOptions],
  Tensor<'float32'>
> {
  override async _call(
    texts: string | readonly string[],
    { pooling = 'none', normalize = false }: FeatureExtractionOptions = {},
  ): Promise<Tensor<'float32'>> {
    if (pooling !== 'none' && pooling !== 'mean') {
      throw new OptionError('UNSUPPORTED_OPTION', `pooling must be 'none' or 'mean', not ${show(pooling)}.`, {
        details: { option: 'pooling' },
      })
    }
    const { input_ids, attention_mask } = this.tokenizer(texts, { padding: true, truncation: true })
    const { last_hidden_state } = await this.model.forward({ input_ids, attention_mask })
    const states = last_hidden_state as Tensor<'float32'>
    const result = pooling === 'mean' ? mean_pooling(states, attention_mask) : states
    return normalize ? normalized(result) : result
  }
}

/** What a model says of itself after its weights have changed: their types and bytes, and whether they are quantised. */

import { resolved_config } from './loading.js'
import type { PreTrainedModel } from './pretrained_model.js'

/** Asks the backend again. To be called wherever weights took another form: when a training starts, with adapters. */
export async function refresh_info(model: Pick<PreTrainedModel, 'handle' | 'info' | 'config'>): Promise<void> {
  model.info = (await model.handle.call('model_info', { model: model.handle.id })).reply
  if (JSON.stringify(model.config.quantization_config) !== JSON.stringify(model.info.config.quantization_config)) {
    Object.assign(model, { config: resolved_config(model.config, model.info) })
  }
}

/** Models with random weights. */

import type { Architecture } from '../backend/contract.js'
import { select_backend } from '../backend/select.js'
import { SwitchTransformersConfig, type SwitchTransformersConfigValues, to_config } from '../configuration.js'
import { OptionError } from '../errors.js'
import { GenerationConfig } from '../generation/configuration.js'
import { show } from '../utils/json.js'
import { engine_options, type LoadedModel } from './loading.js'
import { check_option_names } from './options.js'
import type { InitOptions } from './pretrained_model.js'

const OPTION_NAMES: ReadonlySet<string> = new Set<keyof InitOptions>([
  'backend',
  'device',
  'dtype',
  'expert_device',
  'initializer',
  'routing',
  'seed',
])

/** A model in a backend, before its class is made. */
export async function init_model(
  architecture: Architecture,
  config: SwitchTransformersConfig | SwitchTransformersConfigValues,
  options: InitOptions,
): Promise<LoadedModel> {
  check_option_names('from_config', options, OPTION_NAMES)
  const { seed = 0, initializer = 'reference' } = options
  if (!Number.isSafeInteger(seed) || seed < 0) throw invalid('seed', 'must be an integer of at least 0', seed)
  if (initializer !== 'reference' && initializer !== 'paper') {
    throw invalid('initializer', "must be 'reference' or 'paper'", initializer)
  }
  const engine = engine_options(architecture, options)
  const checked = to_config(config)
  const backend = await select_backend(options)
  const { model } = (await backend.call('model_init', { config: checked.to_dict(), seed, initializer, ...engine }))
    .reply
  try {
    const { reply: info } = await backend.call('model_info', { model })
    const generation_config = GenerationConfig.from_model_config(checked)
    // Quantised or not is for `dtype` to say; all else stands as given.
    const { quantization_config } = info.config
    const own = new SwitchTransformersConfig({ ...checked.to_dict(), quantization_config })
    const same = JSON.stringify(checked.quantization_config) === JSON.stringify(quantization_config)
    return { backend, model, config: same ? checked : own, generation_config, name_or_path: '', info }
  } catch (error) {
    await backend.call('release', { handle: model }).catch(() => {})
    throw error
  }
}

function invalid(option: string, expected: string, found: unknown): OptionError {
  return new OptionError('INVALID_OPTION', `${option} ${expected}, not ${show(found)}.`, { details: { option } })
}

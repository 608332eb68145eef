/** What the examples have in common: their flags, and a model and tokenizer from a name, or new ones of a preset. */

import { parseArgs } from 'node:util'
import {
  AutoTokenizer,
  make_tokenizer,
  SwitchTransformersForConditionalGeneration,
  training_config,
} from 'switch-transformers'

/** `defaults`: of the flags that an example has of its own. */
export function flags(defaults) {
  const { values } = parseArgs({
    options: Object.fromEntries(
      Object.entries({ steps: '200', out: '', model: '', config: 'small', ...defaults }).map(([name, value]) => [
        name,
        { type: 'string', default: value },
      ]),
    ),
  })
  return values
}

/** The model that is fine-tuned; without a name a new one, with a tokenizer made from the texts. */
export async function open_model({ model: name, config }, texts, tokenizer_options) {
  if (name !== '') {
    return {
      tokenizer: await AutoTokenizer.from_pretrained(name),
      model: await SwitchTransformersForConditionalGeneration.from_pretrained(name),
    }
  }
  const tokenizer = await make_tokenizer(texts, tokenizer_options)
  return {
    tokenizer,
    model: await SwitchTransformersForConditionalGeneration.from_config(training_config(config, tokenizer.len), {
      seed: 0,
    }),
  }
}

/** One line per log entry and evaluation. */
export const print_progress = {
  on_log: ({ step, loss }, { state }) => console.log(`step ${step} of ${state.max_steps}: loss ${loss.toFixed(3)}`),
  on_evaluate: (metrics) =>
    console.log(
      Object.entries(metrics)
        .filter(([name]) => !/runtime|per_second|_(z|aux)_loss/.test(name))
        .map(([name, value]) => `${name} ${value.toFixed(3)}`)
        .join(', '),
    ),
}

export function show_examples({ sources, predictions, references }, count = 3) {
  for (let i = 0; i < Math.min(count, sources.length); i++) {
    console.log(`${sources[i]}\n  → ${predictions[i]}\n  should be: ${references[i].join(' | ')}`)
  }
}

/** Finds NaN and infinities: in the weights, and in what a forward pass makes of them. */

import type { Backend } from '../../backend/contract.js'
import type { Repository } from '../../hub/index.js'
import { weights_files } from '../../hub/index.js'
import { in_batches, open_checkpoint } from '../checkpoint.js'
import { non_finite, show_shape, type Values } from '../compare.js'
import { type Check, failed, passed } from './report.js'
import { by_name, type NamedValues } from './tensors.js'

/** One check for the whole checkpoint, or one per tensor that holds values that are not finite. */
export async function verify_weights(backend: Backend, repository: Repository): Promise<Check[]> {
  const { files, index } = await weights_files(repository)
  const checkpoint = await open_checkpoint(backend, repository, files, index)
  const broken: Check[] = []
  try {
    for (const names of in_batches(checkpoint.tensors)) {
      const tensors = await checkpoint.read(names)
      for (const [name, tensor] of tensors) {
        if (tensor.type !== 'float32') continue
        const found = non_finite(tensor as Values)
        if (found === null) continue
        const values = found.count === 1 ? '1 value is' : `${found.count} values are`
        broken.push(
          failed('weights', name, `${values} not finite, the first at ${show_shape(found.first)}: ${found.value}`),
        )
      }
    }
    return broken.length > 0 ? broken : [passed('weights', `${checkpoint.tensors.length} tensors`)]
  } finally {
    await checkpoint.close()
  }
}

/** The outputs by which {@link first_broken} traces a forward pass. */
export const TRACED_OUTPUTS = [
  'encoder_hidden_states',
  'decoder_hidden_states',
  'encoder_router_logits',
  'decoder_router_logits',
]

/** In words, where the first values that are not finite arise in a forward pass; undefined where all are finite. */
export function first_broken(outputs: NamedValues): string | undefined {
  for (const stack of ['encoder', 'decoder']) {
    const states = [...outputs.keys()].filter((name) => name.startsWith(`${stack}_hidden_states.`)).sort(by_name)
    for (const [i, name] of states.entries()) {
      const found = non_finite(outputs.get(name) as Values)
      if (found === null) continue
      const origin = i === 0 ? `${stack}'s embeddings` : `${stack}.block.${i - 1}`
      return `the first values that are not finite come out of ${origin} (${found.count} of them, the first at ${show_shape(found.first)})`
    }
  }
  return undefined
}

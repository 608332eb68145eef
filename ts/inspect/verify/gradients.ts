/** Compares the gradients of a case's loss with those that the reference computed. */

import type { WireTensor } from '../../backend/contract.js'
import { unwire, wire } from '../../backend/wire.js'
import type { BackendHandle } from '../../models/handle.js'
import type { Tensor } from '../../tensor.js'
import { relative_error, same_shape, show_shape } from '../compare.js'
import { type Check, failed, measured } from './report.js'
import { by_name, type NamedValues } from './tensors.js'

/** The file of expected gradients in a case folder. */
export const GRADIENTS = 'grads.safetensors'

const INPUTS = ['input_ids', 'attention_mask', 'decoder_input_ids', 'decoder_attention_mask', 'labels']

/** Largest relative error of one parameter's gradient, where none is given. */
export const GRADIENT_TOLERANCE = 1e-4

/**
 * The gradients of the loss, router losses included, by parameter, without dropout or jitter. The model is in training
 * afterwards: dispose of it.
 */
export async function gradients(handle: BackendHandle, inputs: ReadonlyMap<string, Tensor>): Promise<NamedValues> {
  const options = { dropout_rate: 0, expert_dropout_rate: 0, router_jitter_noise: 0 }
  const { training } = (await handle.call('training_start', { model: handle.id, options })).reply
  await handle.call('training_step', { training, step: 0 }, as_int32(inputs))
  const { tensors } = await handle.call('training_gradients', { training })
  return new Map(tensors.map((tensor) => [tensor.name, unwire(tensor) as never]))
}

function as_int32(inputs: ReadonlyMap<string, Tensor>): WireTensor[] {
  return [...inputs]
    .filter(([name]) => INPUTS.includes(name))
    .map(([name, { dims, data }]) => wire(name, Int32Array.from(data as ArrayLike<number>, Number), dims))
}

/** One check per expected gradient. A parameter that nothing passed through has a gradient of zero. */
export function compare_gradients(expected: NamedValues, actual: NamedValues, tolerance: number): Check[] {
  return [...expected]
    .sort(([a], [b]) => by_name(a, b))
    .map(([name, reference]) => {
      const label = `gradient of ${name}`
      const found = actual.get(name)
      if (found === undefined) return failed('tensor', label, 'the model has no such parameter')
      if (!same_shape(found.dims, reference.dims)) {
        return failed('tensor', label, `its shape is ${show_shape(found.dims)}, expected ${show_shape(reference.dims)}`)
      }
      return measured('tensor', label, relative_error(found.data, reference.data), tolerance)
    })
}

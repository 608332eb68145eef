/** Vectors of texts from the encoder's states. */

import { InputError } from '../errors.js'
import { type MaskInput, Tensor, to_mask } from '../tensor.js'

/**
 * The mean of each row's states where the mask is 1: float32 [rows, tokens, width] to [rows, width].
 *
 * @throws {InputError} for states of another shape, and for masks that do not fit or are all 0.
 */
export function mean_pooling(last_hidden_state: Tensor<'float32'>, attention_mask: MaskInput): Tensor<'float32'> {
  const [rows, tokens, width] = three_dims(last_hidden_state)
  const mask = to_mask(attention_mask, 'attention_mask', { dims: [rows, tokens] }).data
  const means = new Float32Array(rows * width)
  const sums = new Float64Array(width)
  for (let row = 0; row < rows; row++) {
    sums.fill(0)
    let count = 0
    for (let token = row * tokens; token < (row + 1) * tokens; token++) {
      if (mask[token] !== 1) continue
      count++
      for (let i = 0; i < width; i++) sums[i]! += last_hidden_state.data[token * width + i]!
    }
    for (let i = 0; i < width; i++) means[row * width + i] = sums[i]! / count
  }
  return new Tensor('float32', means, [rows, width])
}

/** Vectors along the last dimension scaled to length 1; those of length 0 stay. */
export function normalize(vectors: Tensor<'float32'>): Tensor<'float32'> {
  const width = vectors.dims[vectors.dims.length - 1] ?? 1
  const scaled = Float32Array.from(vectors.data)
  for (let start = 0; start < scaled.length; start += width) {
    const vector = scaled.subarray(start, start + width)
    const length = Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0))
    if (length > 0) for (let i = 0; i < width; i++) vector[i]! /= length
  }
  return new Tensor('float32', scaled, vectors.dims)
}

function three_dims({ type, dims }: Tensor): [number, number, number] {
  if (type === 'float32' && dims.length === 3) return dims as [number, number, number]
  throw new InputError(`mean_pooling needs float32 states [rows, tokens, width]; found ${type} [${dims.join(', ')}].`)
}

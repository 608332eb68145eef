/** Sums and extremes over a tensor or along one of its dimensions. */

import { InputError } from '../errors.js'
import { element_count, resolve_axis } from './shape.js'
import { Tensor } from './tensor.js'
import { DATA_ARRAYS, type DataArrays, type DataType, type Element } from './types.js'

/** How the elements fall into groups: element `(outer, along, inner)` belongs to group `(outer, inner)`. */
function grouping(tensor: Tensor, dim: number | null, keepdim: boolean) {
  if (dim === null) {
    const dims = keepdim ? tensor.dims.map(() => 1) : []
    return { outer: 1, along: tensor.size, inner: 1, dims }
  }
  const axis = resolve_axis(dim, tensor.dims.length)
  const dims = tensor.dims.flatMap((size, index) => (index !== axis ? [size] : keepdim ? [1] : []))
  return {
    outer: element_count(tensor.dims.slice(0, axis)),
    along: tensor.dims[axis]!,
    inner: element_count(tensor.dims.slice(axis + 1)),
    dims,
  }
}

export function reduce_sum<T extends DataType>(tensor: Tensor<T>, dim: number | null, keepdim: boolean): Tensor<T> {
  const { outer, along, inner, dims } = grouping(tensor as Tensor, dim, keepdim)
  const data = tensor.data as ArrayLike<number | bigint>
  // Integer sums wrap around in their own type, as in PyTorch; float32 sums are added in double precision.
  const result = new DATA_ARRAYS[tensor.type](outer * inner) as DataArrays[T]
  for (let group = 0; group < outer; ++group) {
    for (let column = 0; column < inner; ++column) {
      let total: number | bigint = tensor.type === 'int64' ? 0n : 0
      for (let index = 0, at = group * along * inner + column; index < along; ++index, at += inner) {
        total = (total as number) + (data[at] as number)
      }
      result[group * inner + column] = total as never
    }
  }
  return new Tensor(tensor.type, result, dims)
}

/** The largest (`sign` 1) or smallest (-1) of each group and its position along it; the first of equals. NaN wins. */
export function reduce_extreme<T extends DataType>(
  tensor: Tensor<T>,
  dim: number | null,
  keepdim: boolean,
  sign: 1 | -1,
) {
  const { outer, along, inner, dims } = grouping(tensor as Tensor, dim, keepdim)
  if (along === 0)
    throw new InputError(`A tensor of shape [${tensor.dims.join(', ')}] has no largest or smallest value.`)
  const data = tensor.data as unknown as ArrayLike<Element<T>>
  const values = new DATA_ARRAYS[tensor.type](outer * inner) as DataArrays[T]
  const indices = new BigInt64Array(outer * inner)
  for (let group = 0; group < outer; ++group) {
    for (let column = 0; column < inner; ++column) {
      const start = group * along * inner + column
      let best = data[start]!
      let best_index = 0
      for (let index = 1; index < along && !Number.isNaN(best); ++index) {
        const value = data[start + index * inner]!
        if ((sign > 0 ? value > best : value < best) || Number.isNaN(value)) {
          best = value
          best_index = index
        }
      }
      values[group * inner + column] = best as never
      indices[group * inner + column] = BigInt(best_index)
    }
  }
  return { values: new Tensor(tensor.type, values, dims), indices: new Tensor('int64', indices, dims) }
}

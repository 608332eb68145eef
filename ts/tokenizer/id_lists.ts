/** Ids to be decoded, in the forms in which callers have them. Whether they can be ids is checked on decoding. */

import { InputError } from '../errors.js'

interface WithDims {
  readonly data: ArrayLike<number> | ArrayLike<bigint>
  readonly dims: readonly number[]
}

/** One sequence: an array, a typed array or a tensor with one dimension. */
export type IdsLike = readonly number[] | readonly bigint[] | ArrayLike<number> | ArrayLike<bigint> | WithDims
/** Several sequences: an array of such, or a tensor with two dimensions. */
export type RowsLike = readonly IdsLike[] | WithDims

export function to_id_list(ids: IdsLike, name: string): number[] {
  const list = is_tensor(ids) ? (ids.dims.length === 1 ? ids.data : null) : is_list(ids) ? ids : null
  if (list === null) {
    throw new InputError(
      `${name} must be an array of token ids or a tensor with one dimension. For several sequences use batch_decode.`,
    )
  }
  return Array.from(list as ArrayLike<number>, (id, index) => {
    if (typeof id === 'number' || typeof id === 'bigint') return Number(id)
    throw new InputError(
      `${name}[${index}] is ${Array.isArray(id) ? 'an array' : String(id)}; expected a token id. For several sequences use batch_decode.`,
    )
  })
}

export function to_id_rows(batch: RowsLike, name: string): IdsLike[] {
  if (Array.isArray(batch)) return batch
  if (is_tensor(batch) && batch.dims.length === 2) {
    const [rows, cols] = batch.dims as [number, number]
    const data = Array.from(batch.data as ArrayLike<number>)
    return Array.from({ length: rows }, (_, row) => data.slice(row * cols, (row + 1) * cols))
  }
  throw new InputError(
    `${name} must be an array of sequences or a tensor with two dimensions. For one sequence use decode.`,
  )
}

function is_tensor(value: unknown): value is WithDims {
  return typeof value === 'object' && value !== null && 'dims' in value && 'data' in value && Array.isArray(value.dims)
}

function is_list(value: unknown): value is ArrayLike<number> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))
}

/** Element types and the typed arrays that hold them. The names are those of transformers.js. */

import { has_own } from '../utils/json.js'
export interface DataArrays {
  float32: Float32Array
  float64: Float64Array
  int8: Int8Array
  int16: Int16Array
  int32: Int32Array
  int64: BigInt64Array
  uint8: Uint8Array
  uint16: Uint16Array
  uint32: Uint32Array
  bool: Uint8Array
}

export type DataType = keyof DataArrays
export type DataArray = DataArrays[DataType]
/** An element: `bigint` for `int64`, `number` otherwise (0 or 1 for `bool`). */
export type Element<T extends DataType = DataType> = T extends 'int64' ? bigint : number
/** Nested arrays of elements, as `tolist()` returns them. */
export type NestedArray<E> = E | NestedArray<E>[]

type Constructor<A> = { new (length: number): A; BYTES_PER_ELEMENT: number }

export const DATA_ARRAYS: { readonly [T in DataType]: Constructor<DataArrays[T]> } = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  bool: Uint8Array,
}

export const DATA_TYPES = Object.keys(DATA_ARRAYS) as DataType[]

export function is_data_type(type: unknown): type is DataType {
  return typeof type === 'string' && has_own(DATA_ARRAYS, type)
}

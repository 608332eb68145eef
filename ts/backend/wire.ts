/** Tensors as they cross to the backend, and as they come back. */

import { InternalError } from '../errors.js'
import { type DataType, Tensor } from '../tensor.js'
import type { WireDtype, WireTensor } from './contract.js'

type WireArray = Float32Array | Int32Array | BigInt64Array | Uint8Array

function dtype_of(data: WireArray): WireDtype {
  if (data instanceof Float32Array) return 'float32'
  if (data instanceof Int32Array) return 'int32'
  if (data instanceof BigInt64Array) return 'int64'
  return 'uint8'
}

/** A typed array and its shape as they cross. Nothing is copied. */
export function wire(name: string, data: WireArray, dims: readonly number[]): WireTensor {
  return {
    name,
    dtype: dtype_of(data),
    dims: [...dims],
    data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  }
}

const ARRAYS = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array, uint8: Uint8Array } as const

/** A tensor that came back. Shares the bytes where they are aligned. */
export function unwire({ name, dtype, dims, data }: WireTensor): Tensor {
  const array = ARRAYS[dtype]
  if (array === undefined || data.byteLength % array.BYTES_PER_ELEMENT !== 0) {
    throw new InternalError(`The backend answered ${name} as ${data.byteLength} bytes of ${dtype}.`)
  }
  const aligned = data.byteOffset % array.BYTES_PER_ELEMENT === 0 ? data : new Uint8Array(data)
  const values = new array(
    aligned.buffer as ArrayBuffer,
    aligned.byteOffset,
    aligned.byteLength / array.BYTES_PER_ELEMENT,
  )
  return new Tensor(dtype as DataType, values as never, dims)
}

/** All tensors that came back, by name. */
export function unwire_all(tensors: readonly WireTensor[]): Map<string, Tensor> {
  return new Map(tensors.map((tensor) => [tensor.name, unwire(tensor)]))
}

/** The tensors `prefix.0`, `prefix.1`, … in order, as many as there are. */
export function numbered(tensors: ReadonlyMap<string, Tensor>, prefix: string): Tensor[] {
  const list: Tensor[] = []
  for (let index = 0; ; index++) {
    const tensor = tensors.get(`${prefix}.${index}`)
    if (tensor === undefined) return list
    list.push(tensor)
  }
}

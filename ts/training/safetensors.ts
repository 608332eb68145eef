/** Parameters as the bytes of a safetensors file (https://github.com/huggingface/safetensors, format section). */

import type { Tensor } from '../tensor.js'

/** Headers are padded to a multiple of this, as the format's own writer does. */
const ALIGNMENT = 8

/** float32 tensors by name, in parts that can be written one after another. */
export function* safetensors_chunks(tensors: Readonly<Record<string, Tensor>>): Generator<Uint8Array, void, undefined> {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } }
  let offset = 0
  const names = Object.keys(tensors).sort()
  for (const name of names) {
    const { dims, size } = tensors[name] as Tensor
    header[name] = { dtype: 'F32', shape: dims, data_offsets: [offset, offset + 4 * size] }
    offset += 4 * size
  }
  const text = JSON.stringify(header)
  const length = Math.ceil(new TextEncoder().encode(text).length / ALIGNMENT) * ALIGNMENT
  const start = new Uint8Array(8 + length).fill(0x20)
  new DataView(start.buffer).setBigUint64(0, BigInt(length), true)
  start.set(new TextEncoder().encode(text), 8)
  yield start
  for (const name of names) {
    const data = (tensors[name] as Tensor).data as Float32Array
    yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  }
}

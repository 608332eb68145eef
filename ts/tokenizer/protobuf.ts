/**
 * The little of protobuf's wire format that spiece.model needs: fields of a message, in order.
 * (https://protobuf.dev/programming-guides/encoding/)
 */

/** A field: a varint's or a 32-bit value's bits as a number, or bytes. 64-bit values are passed over. */
export interface ProtobufField {
  number: number
  value: number | Uint8Array
  /** 0 varint, 2 bytes, 5 fixed 32 bits. */
  wire_type: 0 | 2 | 5
}

/** Thrown where the bytes are no message. */
export class ProtobufError extends Error {}

/** The fields of a message. Throws a ProtobufError where it ends too soon or makes no sense. */
export function* protobuf_fields(bytes: Uint8Array): Generator<ProtobufField> {
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = bytes[at++]
      if (byte === undefined) throw new ProtobufError(`it ends at byte ${bytes.length}, inside a number`)
      // Bits beyond 2^53 are of no use here: sizes are refused before, and signs are not asked for.
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value
    }
    throw new ProtobufError(`a number at byte ${at - 10} has more than ten bytes`)
  }
  const take = (length: number): Uint8Array => {
    if (length > bytes.length - at) {
      throw new ProtobufError(`a field at byte ${at} has ${length} bytes, but only ${bytes.length - at} are left`)
    }
    at += length
    return bytes.subarray(at - length, at)
  }
  while (at < bytes.length) {
    const start = at
    const key = varint()
    const number = Math.floor(key / 8)
    const wire_type = key % 8
    if (number === 0) throw new ProtobufError(`a field at byte ${start} has number 0`)
    if (wire_type === 0) yield { number, value: varint(), wire_type }
    else if (wire_type === 1) take(8)
    else if (wire_type === 2) yield { number, value: take(varint()), wire_type }
    else if (wire_type === 5) {
      const four = take(4)
      yield { number, value: new DataView(four.buffer, four.byteOffset, 4).getUint32(0, true), wire_type }
    } else throw new ProtobufError(`a field at byte ${start} has wire type ${wire_type}`)
  }
}

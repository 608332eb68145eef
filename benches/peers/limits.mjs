/** Figures as fractions of what the machine can do. */

import { decode_bytes, encode_flop, experts_hit } from './work.mjs'

/** Bytes of a weight, scales included: one per row of int8 (which is next to nothing), one per 32 of int4. */
const WEIGHT_BYTES = { float32: 4, bfloat16: 2, int8: 1, int4: 0.5 + 4 / 32 }

/** What the units that multiply each precision of weights are called: int4 becomes int8 on its way. */
const UNITS = { float32: 'float32', bfloat16: 'bfloat16', int8: 'int8', int4: 'int8' }

/** The fastest unit of a kind: `[name, rate]`. */
function peak(machine, kind) {
  const units = Object.entries(machine).filter(([name]) => name.endsWith(`_${kind}`))
  return units.reduce((best, unit) => (best && best[1] >= unit[1] ? best : unit), undefined)
}

/** `{ value, unit, fraction, limit }` of a side of a case: arithmetic for encoding, bytes of weights read for decoding. */
export function share_of_limit({ dtype, item, config, times }, side, machine) {
  if (item.kind === 'encode') {
    const [limit, rate] = peak(machine, UNITS[dtype]) ?? peak(machine, 'float32')
    const value = encode_flop(config, item.rows, item.tokens) / times.medians[side] / 1e6
    return { value, unit: dtype.startsWith('int') ? 'GOP/s' : 'GFLOP/s', fraction: value / rate, limit }
  }
  const bytes = decode_bytes(config, WEIGHT_BYTES[dtype], experts_hit(config, item.rows))
  const value = bytes / times.step[side] / 1e6
  return { value, unit: 'GB/s', fraction: value / machine.memory_read, limit: 'memory' }
}

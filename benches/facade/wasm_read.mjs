/** How fast this engine's SIMD128 reads memory in one thread: a sum over more than the caches hold. */

import binaryen from 'binaryen'

const PAGES = 4096
const STEP = 8
const BYTES_PER_TURN = STEP * 16

/** The module that reads, for whichever engine. Its memory is to be written once, or all of it is one page of zeros. */
export function read_module() {
  const sums = Array.from({ length: STEP }, (_, i) => `$s${i}`)
  const step = (sum, i) =>
    `(local.set ${sum} (v128.xor (local.get ${sum}) (v128.load offset=${i * 16} (local.get $at))))`
  const total = sums.map((sum) => `(local.get ${sum})`).reduce((all, sum) => `(v128.xor ${all} ${sum})`)
  const module = binaryen.parseText(`(module (memory (export "memory") ${PAGES}) (func (export "run") (result i32)
    (local $at i32) ${sums.map((sum) => `(local ${sum} v128)`).join(' ')}
    (loop $again
      ${sums.map(step).join('\n      ')}
      (local.set $at (i32.add (local.get $at) (i32.const ${BYTES_PER_TURN})))
      (br_if $again (i32.lt_u (local.get $at) (i32.const ${PAGES * 65536}))))
    (i32x4.extract_lane 0 ${total})))`)
  module.setFeatures(binaryen.Features.All)
  return module.emitBinary()
}

export const READ_BYTES = PAGES * 65536

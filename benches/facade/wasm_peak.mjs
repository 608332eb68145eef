/** What this engine's SIMD128 can do at most in one thread: multiply and add from registers. */

import binaryen from 'binaryen'

/** Accumulators enough to hide the latency of a multiply and an add, few enough for the registers. */
const SUMS = 12
const LANES = 4

function text(is_fused) {
  const sums = Array.from({ length: SUMS }, (_, i) => `$s${i}`)
  const next = (sum) =>
    is_fused
      ? `(f32x4.relaxed_madd (local.get ${sum}) (local.get $a) (local.get $b))`
      : `(f32x4.add (f32x4.mul (local.get ${sum}) (local.get $a)) (local.get $b))`
  const step = (sum) => `(local.set ${sum} ${next(sum)})`
  const total = sums.map((sum) => `(local.get ${sum})`).reduce((all, sum) => `(f32x4.add ${all} ${sum})`)
  return `(module (func (export "run") (param $n i32) (param $x f32) (result f32)
    (local $a v128) (local $b v128) ${sums.map((sum) => `(local ${sum} v128)`).join(' ')}
    (local.set $a (f32x4.splat (local.get $x)))
    (local.set $b (f32x4.splat (local.get $x)))
    (loop $again
      ${sums.map(step).join('\n      ')}
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (local.get $n)))
    (f32x4.extract_lane 0 ${total})))`
}

/** The module that multiplies and adds, for whichever engine; with relaxed SIMD's multiply-add where `is_fused`. */
export function peak_module({ is_fused = false } = {}) {
  const module = binaryen.parseText(text(is_fused))
  module.setFeatures(binaryen.Features.All)
  return module.emitBinary()
}

/** FLOP of one turn of its loop. */
export const PEAK_FLOP = SUMS * LANES * 2

/** GFLOP/s, a multiply and an add being two; the best of many short rounds. */
export async function wasm_peak() {
  const { instance } = await WebAssembly.instantiate(peak_module())
  const n = 1_000_000
  let best = Infinity
  // The first rounds run before the engine has optimised.
  for (let round = 0; round < 200; round++) {
    const start = performance.now()
    instance.exports.run(n, 0.5)
    best = Math.min(best, performance.now() - start)
  }
  return (n * PEAK_FLOP) / best / 1e6
}

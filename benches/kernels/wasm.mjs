// Times the WebAssembly kernels in one thread: `node benches/kernels/wasm.mjs path/to/kernels_wasm.wasm`, built with
// `cargo build --release --target wasm32-unknown-unknown -p switch-kernels --example kernels_wasm` and +simd128.
import { readFileSync } from 'node:fs'

const module = await WebAssembly.compile(readFileSync(process.argv[2]))
const { exports: kernels } = await WebAssembly.instantiate(module, {})

function best(run) {
  let least = Infinity
  const start = performance.now()
  for (let runs = 0; runs < 3 || performance.now() - start < 600; runs++) {
    const begin = performance.now()
    run()
    least = Math.min(least, performance.now() - begin)
  }
  return least / 1000
}

const times = 2_000_000
console.log(
  `peak of multiply and add: ${((times * 12 * 8) / best(() => kernels.peak(times)) / 1e9).toFixed(1)} GFLOP/s`,
)
for (const [rows, cols] of [
  [768, 768],
  [2048, 768],
  [768, 2048],
]) {
  for (const n of [1, 8, 64, 512]) {
    const one = kernels.prepare(n, rows, cols)
    for (const [form, name] of ['f32', 'bf16', 'int8', 'int4'].entries()) {
      kernels.multiply(one, form)
      const error = kernels.error(one, form)
      if (!(error < 2e-6)) throw new Error(`relative error ${error}: not timed`)
      const seconds = best(() => kernels.multiply(one, form))
      const rate = ((2 * n * rows * cols) / seconds / 1e9).toFixed(1)
      console.log(`linear ${name} ${n}x${cols} to ${rows}: ${rate} GFLOP/s`)
    }
  }
}

for (const n of [128, 512]) {
  const [heads, head_dim] = [12, 64]
  const one = kernels.prepare_attention(n, heads, head_dim)
  kernels.attend(one)
  const error = kernels.attention_error(one)
  if (!(error < 2e-6)) throw new Error(`relative error ${error}: not timed`)
  const seconds = best(() => kernels.attend(one))
  const rate = ((4 * n * n * heads * head_dim) / seconds / 1e9).toFixed(1)
  console.log(`attention of ${n} queries, ${heads} heads of ${head_dim}: ${rate} GFLOP/s`)
}

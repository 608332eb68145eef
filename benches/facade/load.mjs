/**
 * Time from `from_pretrained` to the first generated token, and resident memory, for any checkpoint.
 *
 *   node benches/facade/load.mjs FOLDER [--dtype auto] [--backend native|wasm]
 *
 * The bar, on a base-8-sized checkpoint in bfloat16 (`switch-transformers init FOLDER --size base-8 --dtype bfloat16`)
 * whose file is in the page cache: under 1.5 s, and under 1.3 times the file's size resident.
 */

import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { inspect_checkpoint, SwitchTransformersForConditionalGeneration, terminate_backends } from '../../dist/node.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { dtype: { type: 'string', default: 'auto' }, backend: { type: 'string', default: 'native' } },
})
const folder = positionals[0]
const { files } = await inspect_checkpoint(folder)
// Into the page cache.
for (const { name } of files) if (statSync(join(folder, name)).size < 2 ** 31) readFileSync(join(folder, name))
globalThis.gc?.()

const started = performance.now()
const model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, values)
const loaded = performance.now()
let first
for await (const _ of model.stream({ input_ids: [[100, 200, 300, 1]], max_new_tokens: 20, min_new_tokens: 20 })) {
  first ??= performance.now()
}
const done = performance.now()

const bytes = files.reduce((sum, { size }) => sum + size, 0)
const peak = process.resourceUsage().maxRSS * 1024
const status = /VmRSS:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))
const resident = status === null ? process.memoryUsage().rss : Number(status[1]) * 1024
const seconds = (ms) => (ms / 1000).toFixed(2)
console.log(`${model.num_parameters()} parameters, ${(bytes / 1e9).toFixed(3)} GB, ${values.dtype}, ${model.backend}`)
console.log(`loaded after ${seconds(loaded - started)} s, first token after ${seconds(first - started)} s`)
console.log(`20 tokens after ${seconds(done - started)} s`)
console.log(`resident ${(resident / bytes).toFixed(2)} x the files' size, at most ${(peak / bytes).toFixed(2)} x`)
await model.dispose()
await terminate_backends()

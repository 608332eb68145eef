/** One run of first_token.mjs: `first_token_child.mjs FOLDER DTYPE`; prints JSON. */

import { SwitchTransformersForConditionalGeneration } from 'switch-transformers'
import { some_ids } from '../peers/statistics.mjs'

const [folder, dtype] = process.argv.slice(2)
const resident = () => process.memoryUsage.rss()
const before_bytes = resident()
const start = performance.now()
const model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { dtype })
const load_ms = performance.now() - start
await model.generate({ input_ids: some_ids(1, 64), max_new_tokens: 1, min_new_tokens: 1 })
const first_token_ms = performance.now() - start
const resident_bytes = resident()
await model.generate({ input_ids: some_ids(1, 512, 2), max_new_tokens: 33, min_new_tokens: 33 })
// Kilobytes on every system.
const peak_bytes = process.resourceUsage().maxRSS * 1024
console.log(JSON.stringify({ before_bytes, load_ms, first_token_ms, resident_bytes, peak_bytes }))
process.exit(0)

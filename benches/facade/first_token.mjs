/**
 * Time from `from_pretrained` to the first generated token, and memory, of a base-8 checkpoint whose file is in the page
 * cache: `npm run bench:first-token [-- --dtype bfloat16] [--runs 5]`. Each run is a process of its own.
 *
 * Bars: median under 1.5 s; the process's peak resident memory under 1.3 × the file's size.
 */

import { execFileSync } from 'node:child_process'
import { createReadStream, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { checkpoint, describe_machine, require_build } from '../peers/environment.mjs'
import { median } from '../peers/statistics.mjs'

const { values: options } = parseArgs({
  options: { dtype: { type: 'string', default: 'bfloat16' }, runs: { type: 'string', default: '5' } },
})

require_build()
const folder = checkpoint('base-8', options.dtype)
const files = readdirSync(folder)
  .filter((name) => name.endsWith('.safetensors'))
  .map((name) => join(folder, name))
const file_bytes = files.reduce((sum, file) => sum + statSync(file).size, 0)

/** Reads the files once, so that they are in the page cache. */
for (const file of files) for await (const _ of createReadStream(file, { highWaterMark: 8 * 2 ** 20 }));

const child = fileURLToPath(new URL('first_token_child.mjs', import.meta.url))
const runs = Array.from({ length: Number(options.runs) }, () =>
  JSON.parse(execFileSync(process.execPath, [child, folder, options.dtype], { encoding: 'utf8' })),
)

const MB = 1e6
const of = (pick) => median(runs.map(pick))
const verdict = (value, bar) => (value < bar ? 'met' : 'MISSED')
const first = of((run) => run.first_token_ms)
const peak = Math.max(...runs.map((run) => run.peak_bytes))
console.log(`${describe_machine()}, Node ${process.versions.node}; base-8 ${options.dtype}, ${(file_bytes / MB).toFixed(0)} MB of files
from_pretrained                 ${of((run) => run.load_ms).toFixed(0)} ms
from_pretrained to first token  ${first.toFixed(0)} ms (bar 1500: ${verdict(first, 1500)}), all runs: ${runs.map((run) => run.first_token_ms.toFixed(0)).join(', ')}
resident after the first token  ${(of((run) => run.resident_bytes) / MB).toFixed(0)} MB, before loading ${(of((run) => run.before_bytes) / MB).toFixed(0)} MB
resident at most                ${(peak / MB).toFixed(0)} MB, ${(peak / file_bytes).toFixed(2)} × the files (bar 1.3: ${verdict(peak / file_bytes, 1.3)}), after 512 tokens read and 33 written too`)

/**
 * How late a 10 ms interval timer is while a generation runs in the same process: `npm run bench:timer [-- --seconds 30]
 * [--dtype bfloat16] [--backend native]`. Before it, the same for a few seconds with nothing running, since other
 * processes delay a timer as well.
 *
 * Bar: never late by more than 20 ms.
 */

import { availableParallelism, loadavg } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { SwitchTransformersForConditionalGeneration } from 'switch-transformers'
import { checkpoint, describe_machine, require_build } from '../peers/environment.mjs'
import { some_ids } from '../peers/statistics.mjs'

const INTERVAL_MS = 10
const BAR_MS = 20

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '30' },
    dtype: { type: 'string', default: 'bfloat16' },
    backend: { type: 'string', default: 'native' },
  },
})

/** Milliseconds by which each tick came after its time, while `work` runs. */
async function lateness(work) {
  const late = []
  let last = performance.now()
  const timer = setInterval(() => {
    const now = performance.now()
    late.push(Math.max(0, now - last - INTERVAL_MS))
    last = now
  }, INTERVAL_MS)
  await work()
  clearInterval(timer)
  return late.sort((a, b) => a - b)
}

function describe(late) {
  const at = (share) => late[Math.min(late.length - 1, Math.floor(share * late.length))].toFixed(1)
  const beyond = late.filter((ms) => ms > BAR_MS).length
  return `${late.length} ticks, late by ${at(0.5)} ms (median), ${at(0.99)} (99 %), ${at(1)} at most; ${beyond} by more than ${BAR_MS}`
}

require_build()
const seconds = Number(options.seconds)
const folder = checkpoint('base-8', options.dtype)
const model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, {
  dtype: options.dtype,
  backend: options.backend,
})
const inputs = { input_ids: some_ids(1, 64) }
await model.generate({ ...inputs, max_new_tokens: 2, min_new_tokens: 2 })

const idle = await lateness(() => pause(5000))
let tokens = 0
const busy = await lateness(async () => {
  const many = 100_000
  const ids = await model.generate({ ...inputs, max_new_tokens: many, min_new_tokens: many, max_time: seconds })
  tokens = ids.dims[1] - 1
})
const most = busy.at(-1)
console.log(`${describe_machine()}, Node ${process.versions.node}, load average ${loadavg()[0].toFixed(1)} on ${availableParallelism()} cores; base-8 ${options.dtype}, ${model.backend}
nothing running: ${describe(idle)}
generating ${tokens} tokens in ${seconds} s: ${describe(busy)}
bar ${BAR_MS} ms: ${most <= BAR_MS ? 'met' : 'MISSED'}${idle.at(-1) > BAR_MS ? ' (missed with nothing running too: others use the machine)' : ''}`)
process.exit(0)

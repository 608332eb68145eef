/**
 * How late a 10 ms interval timer is while a generation runs in the same process: `npm run bench:timer [-- --seconds 30]
 * [--dtype bfloat16] [--backend native]`. Before it, the same for a few seconds with nothing running, since other
 * processes delay a timer as well.
 *
 * Bar: never late by more than 20 ms.
 */

import { closeSync, openSync, readSync } from 'node:fs'
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

/** Milliseconds that this thread has been ready and waited for a processor, or null where that is not told. */
function open_waiting() {
  let file
  try {
    file = openSync('/proc/thread-self/schedstat', 'r')
  } catch {
    return { read: () => null, close() {} }
  }
  const buffer = Buffer.alloc(100)
  return {
    read: () => Number(buffer.toString('latin1', 0, readSync(file, buffer, 0, 100, 0)).split(' ')[1]) / 1e6,
    close: () => closeSync(file),
  }
}

const ascending = (values) => values.sort((a, b) => a - b)

/** Milliseconds by which each tick came after its time, while `work` runs: `late`, and `own` without the waiting. */
async function lateness(work) {
  const waiting = open_waiting()
  const late = []
  const own = []
  let last = performance.now()
  let waited = waiting.read()
  const timer = setInterval(() => {
    const now = performance.now()
    const ms = Math.max(0, now - last - INTERVAL_MS)
    late.push(ms)
    last = now
    if (waited === null) return
    const total = waiting.read()
    own.push(Math.max(0, ms - (total - waited)))
    waited = total
  }, INTERVAL_MS)
  await work()
  clearInterval(timer)
  waiting.close()
  return { late: ascending(late), own: ascending(own) }
}

function describe({ late, own }) {
  const at = (share) => late[Math.min(late.length - 1, Math.floor(share * late.length))].toFixed(1)
  const beyond = late.filter((ms) => ms > BAR_MS).length
  const without = own.length > 0 ? `; ${own.at(-1).toFixed(1)} at most without waiting for a processor` : ''
  return `${late.length} ticks, late by ${at(0.5)} ms (median), ${at(0.99)} (99 %), ${at(1)} at most${without}; ${beyond} by more than ${BAR_MS}`
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
const most = busy.late.at(-1)
console.log(`${describe_machine()}, Node ${process.versions.node}, load average ${loadavg()[0].toFixed(1)} on ${availableParallelism()} cores; base-8 ${options.dtype}, ${model.backend}
nothing running: ${describe(idle)}
generating ${tokens} tokens in ${seconds} s: ${describe(busy)}
bar ${BAR_MS} ms: ${most <= BAR_MS ? 'met' : 'MISSED'}${idle.late.at(-1) > BAR_MS ? ' (missed with nothing running too: the machine is shared)' : ''}`)
process.exit(0)

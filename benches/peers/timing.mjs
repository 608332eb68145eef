/** Turns of all sides, one after another in every round, and their medians. */

import { cpus } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { median } from './statistics.mjs'

/** Between turns, so that one side's threads have gone to sleep before the other's start: OpenMP's spin for 200 ms. */
const PAUSE_MS = 300
/** What part of the machine others may use while a case is timed on a machine that is said to be quiet. */
export const MOST_FOREIGN = 0.1

async function turn(worker, request, clock) {
  await pause(PAUSE_MS)
  const reply = await worker.ask(request)
  if (reply[clock] === undefined) throw new Error(`${worker.name} does not say ${clock}`)
  return reply[clock]
}

/** Milliseconds that all processors together were busy. */
const busy_ms = () => cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0)

/** Reads which part of the machine others have used since. */
function foreign_clock(workers) {
  const own_ms = () => workers.reduce((sum, worker) => sum + worker.processor_ms(), 0)
  const [start, busy, own] = [performance.now(), busy_ms(), own_ms()]
  return () => {
    const foreign = busy_ms() - busy - (own_ms() - own)
    return Number.isNaN(foreign) ? undefined : foreign / (performance.now() - start) / cpus().length
  }
}

/**
 * Times a case: `{ medians, ratios, rounds }`, milliseconds by side, and by peer the median over the rounds of its time
 * divided by ours. For a generation also `step`: milliseconds of one decoding step by side, from the difference to a
 * generation of one token. `foreign` is the part of the machine that none of the sides used and that was not idle (where the
 * system tells). `clock` is `ms`, time that passed, or `cpu`, processor time. `holds` throws when the figures would
 * no longer count.
 */
export async function time_case(sides, item, seed, { runs, clock, holds = () => {} }) {
  const request = item.request(seed)
  const one = item.kind === 'generate' ? item.request(seed, 1) : null
  const rounds = []
  for (const worker of Object.values(sides)) {
    await worker.ask(request)
    if (one) await worker.ask(one)
  }
  const read_foreign = foreign_clock(Object.values(sides))
  for (let round = 0; round < runs; round++) {
    const names = Object.keys(sides)
    if (round % 2 === 1) names.reverse()
    const times = {}
    for (const name of names) {
      holds()
      const ms = await turn(sides[name], request, clock)
      times[name] = { ms, first: one ? await turn(sides[name], one, clock) : undefined }
    }
    holds()
    rounds.push(times)
  }
  const over = (pick) => median(rounds.map(pick))
  const names = Object.keys(sides)
  return {
    rounds,
    foreign: read_foreign(),
    medians: Object.fromEntries(names.map((name) => [name, over((times) => times[name].ms)])),
    ratios: Object.fromEntries(
      names.filter((name) => name !== 'ours').map((name) => [name, over((times) => times[name].ms / times.ours.ms)]),
    ),
    step: one
      ? Object.fromEntries(
          names.map((name) => [name, over((times) => (times[name].ms - times[name].first) / (item.steps - 1))]),
        )
      : undefined,
  }
}

/** Lets the compiler see a case; `{ ready, seconds, reason? }`. */
export async function compiled_case(worker, item, seed, limit_s) {
  const start = performance.now()
  const seconds = () => (performance.now() - start) / 1000
  try {
    // The second run may compile again, for shapes that turned out to vary.
    await worker.ask(item.request(seed), { limit_s })
    await worker.ask(item.request(seed), { limit_s })
    return { ready: true, seconds: seconds() }
  } catch (error) {
    return { ready: false, seconds: seconds(), reason: String(error.message).split('\n')[0] }
  }
}

/** One comparison in one precision: load all sides, check their results against the reference, then time each case. */

import { loadavg } from 'node:os'
import { model_files } from './models.mjs'
import { can_do, compiles, start_side } from './sides.mjs'
import { compiled_case, MOST_FOREIGN, time_case } from './timing.mjs'
import { compiled_agrees, distance, show_distance, verify } from './verify.mjs'

/** How often a case is timed on a machine that others turn out to use. */
const MOST_TURNS = 4

const say = (text) => console.error(text)

export const key_of = (comparison, dtype, item) => `${comparison}, ${dtype}, ${item.name}`

/** Lets the compiler see a case and checks what it made: `{ ready, seconds, reason?, distance? }`. */
async function prepare_compiled(worker, item, checked, dtype, limit_s) {
  const compile = await compiled_case(worker, item, checked.seed, limit_s)
  if (!compile.ready) return compile
  const { expected, options, peers, seed } = checked
  const found = await distance(worker, expected, item, item.request(seed), options)
  if (compiled_agrees(found, peers.eager, dtype)) return { ...compile, distance: found }
  return { ...compile, ready: false, reason: `differs from the reference: ${show_distance(found)}` }
}

export async function compare({ name, model, dtype, peers, cases, python, env, folder, options, store, turns }) {
  const files = model_files(model, dtype, python)
  const setting = { files, dtype, python, env }
  say(`Loading ${model} in ${dtype}…`)
  const sides = {}
  const versions = {}
  for (const side of ['ours', ...peers.filter((peer) => can_do(peer, dtype, 'encode'))]) {
    const { worker, about } = await start_side(side, setting)
    sides[side] = worker
    versions[side] = about
  }
  // In float32 the reference may be one of the peers.
  const shared = dtype === 'float32' && sides.eager !== undefined
  const reference = shared ? sides.eager : (await start_side('reference', setting)).worker
  const able = (item) => Object.keys(sides).filter((side) => side !== 'ours' && can_do(side, dtype, item.kind))
  const everyone = [...Object.values(sides), reference]
  const settings = { runs: Number(options.runs), clock: options['cpu-time'] ? 'cpu' : 'ms' }

  for (const item of cases) {
    const label = `${dtype}, ${item.name}`
    const of_sides = (names) => Object.fromEntries(names.map((side) => [side, sides[side]]))
    const plain = able(item).filter((side) => !compiles(side))
    const check = async () => {
      const checked = await verify(item, { ours: sides.ours, peers: of_sides(plain), reference, dtype, model, folder })
      const found = Object.entries({ ours: checked.ours, ...checked.peers })
      const far = found.map(([side, distance]) => `${side} ${show_distance(distance)}`).join('; ')
      say(`${label}: ${far}${checked.note ? ` (${checked.note})` : ''}`)
      return checked
    }
    const result = { comparison: name, model, dtype, item, config: files.config, versions, load: loadavg()[0] }
    const time = (checked, compiled, holds) => {
      const timed = ['ours', ...plain.filter((side) => !checked.differs.includes(side)), ...compiled]
      return time_case(of_sides(timed), item, checked.seed, { ...settings, holds })
    }
    const compiled = able(item).filter(compiles)
    let checked
    await turns.run(everyone, async (holds) => {
      checked = await check()
      if (checked.seed !== undefined && compiled.length === 0) result.times = await time(checked, [], holds)
    })
    const ready = []
    if (checked.seed !== undefined && compiled.length > 0) {
      // Compiling takes minutes: not in a turn.
      await turns.release()
      result.compile = await prepare_compiled(sides.compiled, item, checked, dtype, Number(options['compile-limit']))
      if (result.compile.ready) ready.push('compiled')
    }
    const disturbed = () => turns.exist && result.times?.foreign > MOST_FOREIGN
    for (let turn = 0; checked.seed !== undefined && turn < MOST_TURNS && (!result.times || disturbed()); turn++) {
      if (disturbed())
        say(`${label}: others used ${(100 * result.times.foreign).toFixed(0)} % of the machine: once more`)
      const times = await turns.run(everyone, (holds) => time(checked, ready, holds))
      if (!(times.foreign >= result.times?.foreign)) result.times = times
    }
    if (result.times)
      say(`${label}: ${JSON.stringify(result.times.medians)}, others ${result.times.foreign?.toFixed(3)}`)
    const { seed, ours, peers: others, differs, note } = checked
    store.put(key_of(name, dtype, item), { ...result, checked: { seed, ours, peers: others, differs, note } })
  }
  await turns.release()
  await Promise.all(everyone.map((worker) => worker.close()))
}

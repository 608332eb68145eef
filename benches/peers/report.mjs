/** The tables of a comparison, and the file that keeps them. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CASES } from './cases.mjs'
import { key_of } from './compare.mjs'
import { COMPARISONS, fraction_bar, ratio_bar } from './comparisons.mjs'
import { describe_machine, root } from './environment.mjs'
import { share_of_limit } from './limits.mjs'
import { MOST_FOREIGN } from './timing.mjs'
import { show_distance } from './verify.mjs'

const TITLES = {
  transformers: 'Base-8 against PyTorch `transformers`',
  quantised: 'Base-8 in int8 and int4',
  dense: 'A dense T5 of the same dimensions (ours without sparse layers) against onnxruntime, CTranslate2 and candle',
}

const with_bar = (text, value, bar) =>
  bar === undefined ? text : `${text} (bar ${bar}: ${value >= bar ? 'met' : '**missed**'})`

/** Over 1 only where the limit's measurement was disturbed, and then no bar is called met. */
function fraction_text({ fraction, limit }, bar) {
  const text = `${fraction.toFixed(2)} of ${limit}`
  return fraction > 1 ? `${text} (limit measured too low)` : with_bar(text, fraction, bar)
}

const rate = ({ item, times }, side) => (item.produced / (times.medians[side] / 1000)).toFixed(0)

function ours_cells(result, machine) {
  const share = share_of_limit(result, 'ours', machine)
  const step = result.times.step ? `${result.times.step.ours.toFixed(1)} ms a step, ` : ''
  // The bars are base-8's.
  const bar = result.model === 'base-8' ? fraction_bar(result.dtype, result.item.name) : undefined
  return [
    rate(result, 'ours'),
    `${step}${share.value.toFixed(share.value < 100 ? 1 : 0)} ${share.unit}, ${fraction_text(share, bar)}`,
  ]
}

function peer_cell(result, side, machine) {
  const { checked, compile, times } = result
  if (times?.ratios[side] === undefined) {
    if (side === 'compiled' && compile && !compile.ready) return 'not timed, see below'
    return checked.differs?.includes(side) ? 'differs: not timed' : '–'
  }
  const ratio = times.ratios[side]
  const share = share_of_limit(result, side, machine)
  const text = `${rate(result, side)}; ${share.fraction.toFixed(2)}; ${ratio.toFixed(2)} ×`
  return with_bar(text, ratio, ratio_bar(side, result.dtype, result.item.name))
}

function fastest_cell(result) {
  const ratio = Math.min(...Object.values(result.times.ratios))
  return with_bar(`${ratio.toFixed(2)} ×`, ratio, ratio_bar('transformers', result.dtype, result.item.name))
}

function difference_cell({ checked, compile, times }) {
  const { ours, peers, note } = checked
  const parts = [show_distance(ours)]
  for (const [name, distance] of Object.entries({ ...peers, compiled: compile?.distance })) {
    // A reference does not differ from itself.
    if (distance && !(distance.error === 0)) parts.push(`${name}: ${show_distance(distance)}`)
  }
  if (times?.foreign > MOST_FOREIGN)
    parts.push(`disturbed: others used ${(100 * times.foreign).toFixed(0)} % of the machine`)
  return [...parts, note].filter(Boolean).join('; ')
}

function table(comparison, results, machine) {
  const peers = comparison.peers.filter((side) =>
    results.some(({ times, compile }) => times?.ratios[side] !== undefined || (side === 'compiled' && compile)),
  )
  const fastest = comparison.name === 'transformers'
  const head = [
    '',
    'case',
    'ours, tokens/s',
    'of the limit',
    ...peers.map((side) => `${side}: tokens/s; of the limit; ours`),
  ]
  if (fastest) head.push('ours to the fastest')
  head.push('difference from the reference')
  const rows = results.map((result) => {
    const { dtype, item, times } = result
    if (!times) return [dtype, item.name, ...head.slice(3).map(() => '–'), difference_cell(result)]
    const cells = [
      dtype,
      item.name,
      ...ours_cells(result, machine),
      ...peers.map((side) => peer_cell(result, side, machine)),
    ]
    if (fastest) cells.push(fastest_cell(result))
    return [...cells, difference_cell(result)]
  })
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

/** Limits of all measurements: the highest of each. */
function limits_of(entries) {
  const machine = {}
  for (const { limits } of entries) {
    for (const [name, value] of Object.entries(limits)) machine[name] = Math.max(machine[name] ?? 0, value)
  }
  return machine
}

function limits_table({ threads, ...limits }) {
  const rows = Object.entries(limits).map(([name, value]) => {
    if (name === 'memory_read') return `| memory read | ${value.toFixed(1)} GB/s |`
    return `| ${name.replaceAll('_', ', ')} | ${value.toFixed(0)} ${name.endsWith('int8') ? 'GOP/s' : 'GFLOP/s'} |`
  })
  return ['| limit | |', '| --- | --- |', ...rows].join('\n')
}

/** One line per side: what it was. */
function versions_text(results) {
  const found = new Map()
  for (const { versions, dtype } of results) {
    for (const [side, { version, torch, isa, threads, compute }] of Object.entries(versions)) {
      const parts = [torch && `torch ${torch}`, isa, dtype === 'int8' && compute, `${threads} threads`]
      const name = { ours: 'switch-transformers', eager: 'transformers' }[side] ?? side
      if (side !== 'compiled') found.set(`${name} ${version} (${parts.filter(Boolean).join(', ')})`, true)
    }
  }
  return [...found.keys(), `Node ${process.versions.node}`].join(', ')
}

function failures_text(results) {
  return results
    .filter(({ compile }) => compile && !compile.ready)
    .map(({ dtype, item, compile }) => `- compiled, ${dtype}, ${item.name}: ${compile.reason}`)
    .join('\n')
}

const minute = (at) => `${at.slice(0, 10)} ${at.slice(11, 16)} UTC`

function busy_text(loads, options) {
  if (options.turn !== undefined) return 'Timed in turns in which other work on the machine stood still.'
  const most = Math.max(...loads)
  if (most <= 0.7) return ''
  if (options['cpu-time'] && options.threads === '1')
    return 'Processor time of one thread, which other work hardly changes.'
  return `Load averages up to ${most.toFixed(1)}, the bench's own sides included: where other work ran beside it rates are too low, and ratios flatter the side whose threads wait less for each other.`
}

export function report(store, options) {
  const limits = store.get(['limits before', 'limits after'])
  const machine = limits_of(limits)
  const sections = []
  const all = []
  for (const comparison of COMPARISONS) {
    const keys = comparison.dtypes.flatMap((dtype) => CASES.map((item) => key_of(comparison.name, dtype, item)))
    const results = store.get(keys)
    if (results.length === 0) continue
    all.push(...results)
    sections.push(`## ${TITLES[comparison.name]}\n\n${table(comparison, results, machine)}\n`)
  }
  if (all.length === 0) return console.log('Nothing has been measured.')
  const times = [...all, ...limits].map(({ at }) => at).sort()
  // Which program makes the machine quiet says nothing to others.
  const given = process.argv.slice(2).map((flag, i, flags) => (flags[i - 1] === '--turn' ? 'COMMAND' : flag))
  const flags = given.map((flag) => (flag.includes(' ') ? `'${flag}'` : flag))
  const failures = failures_text(all)
  const text = `# Ours and the peers, base-8 dimensions (619 M parameters sparse, 223 M dense, randomly initialised)

Machine: ${describe_machine()}. ${busy_text(
    all.map(({ load }) => load),
    options,
  )}
Versions: ${versions_text(all)}.
Command: \`npm run bench:peers${flags.length > 0 ? ` -- ${flags.join(' ')}` : ''}\`; measured from ${minute(times[0])} to ${minute(times.at(-1))}.

${limits_table(machine)}

Measured before and after the cases with ${machine.threads} threads; the higher figure counts.

${sections.join('\n')}
Times are medians of ${options.runs} rounds${options['cpu-time'] ? ' of processor time' : ''}; in every round each side takes one turn, in an alternating order. A ratio is the
median over the rounds of the peer's time divided by ours: above 1 ours is faster. Generation is greedy with the cache, from
the call to the last token. Fractions: encoding, arithmetic of the matrix products against the fastest unit for the precision
of the weights; generating, bytes of weights of a decoding step (each active weight once, its experts: as many as are hit on
average; scales included) against memory, its time being the difference to a generation of one token. The reference is
PyTorch transformers in float32 on the same weights (before they are rounded to int8 or int4).
${failures === '' ? '' : `\n${failures}\n`}`
  console.log(text)
  if (options['no-write']) return
  const folder = join(root, 'benches/results')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, `${options.name}.md`), text)
}

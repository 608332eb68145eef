/** The table of a comparison, and the file that keeps it. */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe_machine, root } from './environment.mjs'
import { show_distance } from './verify.mjs'
import { decode_bytes, encode_flop, experts_hit } from './work.mjs'

/** Bars: ours against the peer in its fastest mode, and fractions of the machine's limit. */
const BARS = {
  float32: {
    encode: { '1×128': 2.2, '1×512': 2.2, '8×128': 2.2 },
    generate: { 1: 3, 8: 3 },
    prefill: 0.75,
    decode: 0.8,
  },
  bfloat16: {
    encode: { '1×128': 1.6, '1×512': 1.3, '8×128': 1.1 },
    generate: { 1: 2.5, 8: 2.2 },
    prefill: 0.65,
    decode: 0.8,
  },
}

/** The fastest unit of a kind: `[name, rate]`. */
function peak(machine, kind) {
  const units = Object.entries(machine).filter(([name]) => name.endsWith(`_${kind}`))
  return units.reduce((best, unit) => (best && best[1] >= unit[1] ? best : unit), undefined)
}

/** A fraction of a limit; over 1 only where the limit's measurement was disturbed, and then no bar is called met. */
const share = (value, bar) => (value > 1 ? `${value.toFixed(2)} (limit measured too low)` : against(value, bar, 2))

const against = (value, bar, digits) =>
  bar === undefined ? value.toFixed(digits) : `${value.toFixed(digits)} (bar ${bar}${value >= bar ? '' : ', missed'})`

function bar_of({ dtype, item }) {
  const { rows, tokens, kind } = item
  return kind === 'encode' ? BARS[dtype]?.encode[`${rows}×${tokens}`] : BARS[dtype]?.generate[rows]
}

/** What part of the machine's limit ours reaches. */
function fraction({ dtype, item, config, times }, machine) {
  if (item.kind === 'encode') {
    const [unit, rate] = peak(machine, dtype) ?? peak(machine, 'float32')
    const found = encode_flop(config, item.rows, item.tokens) / times.medians.ours / 1e6
    const bar = item.rows === 1 && item.tokens === 512 ? BARS[dtype]?.prefill : undefined
    return `${found.toFixed(0)} GFLOP/s, ${share(found / rate, bar)} of ${unit}`
  }
  const bytes = decode_bytes(config, dtype === 'float32' ? 4 : 2, experts_hit(config, item.rows))
  const found = bytes / times.step.ours / 1e6
  const bar = item.rows === 1 ? BARS[dtype]?.decode : undefined
  return `${times.step.ours.toFixed(1)} ms a step, ${found.toFixed(1)} GB/s, ${share(found / machine.memory_read, bar)} of memory`
}

function row(result, machine) {
  const { dtype, item, checked, compile, times } = result
  const rate = (name) => (item.produced / (times.medians[name] / 1000)).toFixed(0)
  if (!times) return [dtype, item.name, '–', '–', '–', '–', '–', checked.note]
  const compiled = times.medians.compiled ? rate('compiled') : compile ? 'failed' : '–'
  const fastest = Math.min(...Object.values(times.ratios))
  const equal = `${show_distance(checked.ours)}${checked.peer ? `; peer's: ${show_distance(checked.peer)}` : ''}`
  return [
    dtype,
    item.name,
    rate('ours'),
    rate('eager'),
    compiled,
    against(fastest, bar_of(result), 2),
    fraction(result, machine),
    checked.note ? `${equal}; ${checked.note}` : equal,
  ]
}

const markdown = (rows) => rows.map((cells) => `| ${cells.join(' | ')} |`).join('\n')

/** What to make of figures that were taken on a shared machine. */
function busy_note(options) {
  if (options['cpu-time'] && options.threads === '1') {
    return 'The machine was shared while measuring; processor time of one thread hardly depends on that.'
  }
  return 'The machine was shared while measuring: rates are too low, and ratios flatter the side whose threads wait less for each other (repeat with --threads 1 --cpu-time, or on an idle machine).'
}

export function report({ results, machine, versions, load, options }) {
  const head = [
    '',
    'case',
    'ours, tokens/s',
    'eager',
    'compiled',
    'ratio to the fastest',
    'of the limit',
    'difference from the reference',
  ]
  const table = markdown([head, head.map(() => '---'), ...results.map((result) => row(result, machine))])
  const units = Object.entries(machine).filter(([name]) => name !== 'threads' && name !== 'memory_read')
  const failures = results
    .filter(({ compile }) => compile && !compile.ready)
    .map(({ dtype, item, compile }) => `- compiled, ${dtype}, ${item.name}: ${compile.reason}`)
  const flags = process.argv.slice(2).map((flag) => (flag.includes(' ') ? `'${flag}'` : flag))
  const text = `# Ours and PyTorch transformers, base-8 (619 M parameters, randomly initialised)

${table}

Machine: ${describe_machine()}. Load average when it began: ${load.toFixed(1)}${load > 0.7 ? `. ${busy_note(options)}` : '.'}
Limits measured in the same run, all threads: ${units.map(([name, rate]) => `${name} ${rate.toFixed(0)}`).join(', ')} GFLOP/s or GOP/s; memory read ${machine.memory_read.toFixed(1)} GB/s.
Versions: switch-transformers ${versions.ours.version} (${versions.ours.isa}, ${versions.ours.threads} threads), transformers ${versions.peer.version}, torch ${versions.peer.torch} (${versions.peer.isa}, ${versions.peer.threads} threads), Node ${process.versions.node}.
Command: \`npm run bench:peers${flags.length > 0 ? ` -- ${flags.join(' ')}` : ''}\`, ${new Date().toISOString().slice(0, 10)}.

${options['cpu-time'] ? 'Times are processor time of the whole process, not time that passed. They are' : 'Times are'} medians of ${options.runs} rounds; in every
round each side takes one turn, in an alternating order. The ratio is the median over the rounds of the peer's time
divided by ours. Generation is greedy with the cache, from the call to the last token. The bytes of a decoding step count
each active weight once (its experts: as many as are hit on average), its time is the difference to a generation of one
token. In bfloat16 the reference is float32 arithmetic on the same weights.
${failures.length > 0 ? `\n${failures.join('\n')}\n` : ''}`
  console.log(text)
  if (options['no-write']) return
  const folder = join(root, 'benches/results')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, `${options.name}.md`), text)
}

/**
 * A training's report: one HTML page that needs nothing else. Its curves are drawn by uPlot (MIT, 22 kB gzipped), whose
 * code the page carries; the loads of experts are drawn here, since it draws lines.
 */

import uplot_script from 'uplot/dist/uPlot.iife.min.js?raw'
import uplot_style from 'uplot/dist/uPlot.min.css?raw'
import type { LogEntry } from '../state.js'
import type { TrainingReportOptions } from '../training_report.js'
import { figures_of, load_maps_of, load_variation } from './figures.js'
import page_script from './page_script.js?raw'
import page_style from './page_style.css?raw'

/** The page. `log` are the entries of `log.jsonl`. */
export function make_report(
  log: readonly LogEntry[],
  { title = 'Training', args }: TrainingReportOptions = {},
): string {
  const figures = figures_of(log)
  const maps = load_maps_of(log)
  // "<" could end the script that holds the data.
  const data = JSON.stringify({ figures, maps }).replaceAll('<', '\\u003c')
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<link rel="icon" href="data:,">
<style>${uplot_style}</style>
<style>${page_style}</style>
</head>
<body>
<header>
<h1>${escaped(title)}</h1>
<p>${escaped(subtitle(log))}</p>
<dl>${tiles(log)
    .map(([name, value]) => `<div><dt>${escaped(name)}</dt><dd>${escaped(value)}</dd></div>`)
    .join('')}</dl>
</header>
<main>
<h2>Course</h2>
<p>Drag over a curve to look closer; double-click to see all of it again.</p>
<div id="figures"></div>
${maps.length === 0 ? '' : '<h2>Load of the experts</h2>\n<p>Per sparse layer, the share of tokens that each expert got, over time: even where every row has the same shade. Dropped tokens found their expert full.</p>'}
<div id="maps"></div>
${args === undefined ? '' : `<h2>Options</h2>\n<details><summary>All options of this training</summary>\n<table>${rows(args)}</table></details>`}
</main>
<script type="application/json" id="data">${data}</script>
<!-- uPlot, (c) Leon Sorokin, MIT licence: https://github.com/leeoniya/uPlot/blob/master/LICENSE -->
<script>${uplot_script.replaceAll('</script', '<\\/script')}</script>
<script>${page_script}</script>
</body>
</html>
`
}

function subtitle(log: readonly LogEntry[]): string {
  const end = log.findLast(({ type }) => type === 'end')
  const last = log.at(-1)
  if (last === undefined) return 'Nothing has been logged yet.'
  const steps = `${last.step.toLocaleString('en')} steps, ${Number(last.epoch.toFixed(2))} epochs`
  return end === undefined ? `${steps} so far` : `${steps}; ended by ${String(end.ended_by).replaceAll('_', ' ')}`
}

function tiles(log: readonly LogEntry[]): [string, string][] {
  const last = (key: string) => log.findLast((entry) => Number.isFinite(entry[key]))?.[key] as number | undefined
  const list: [string, string][] = []
  const add = (name: string, value: number | undefined) => {
    if (value !== undefined) list.push([name, show(value)])
  }
  add('training loss', last('loss'))
  add('evaluation loss', last('eval_loss'))
  for (const key of ['eval_exact_match', 'eval_word_error_rate', 'eval_bleu', 'eval_rougeL']) {
    add(key.slice(5).replaceAll('_', ' '), last(key))
  }
  add('dropped tokens', last('drop_rate'))
  const layers = log.findLast((entry) => Array.isArray(entry.layers) && entry.layers.length > 0)?.layers as
    | { load: number[] }[]
    | undefined
  if (layers !== undefined) add('largest load variation', Math.max(...layers.map(({ load }) => load_variation(load))))
  add('tokens per second', last('tokens_per_second'))
  return list
}

function rows(args: Readonly<Record<string, unknown>>): string {
  return Object.entries(args)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => {
      const text =
        typeof value === 'function' ? 'a function' : typeof value === 'string' ? value : JSON.stringify(value)
      return `<tr><td>${escaped(name)}</td><td>${escaped(text)}</td></tr>`
    })
    .join('')
}

function show(value: number): string {
  const size = Math.abs(value)
  return size !== 0 && size < 1e-3
    ? value.toExponential(2)
    : Number(value.toPrecision(4)).toLocaleString('en', { maximumFractionDigits: 4 })
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

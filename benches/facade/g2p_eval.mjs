/**
 * The embedded model on words with known pronunciations: how many answers equal the reference's, and the error rates.
 *
 *   node benches/facade/g2p_eval.mjs TEST.tsv [--beams 4] [--batch 128] [--backend native|wasm] [--metrics METRICS.json]
 *     [--dtype int8]
 *
 * TEST.tsv has a header line and, separated by tabs: word, pronunciations (separated by " | "), the reference's greedy
 * answer, its answer with 4 beams. With --metrics (the reference's own error rates) the exit code is 1 unless all but 19
 * of 6,319 answers (in proportion) are equal and both rates are within 0.0005.
 */

import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import {
  AutoTokenizer,
  embedded_model_path,
  SwitchTransformersForConditionalGeneration,
  terminate_backends,
} from '../../dist/node.js'
import { evaluate, parse_rows } from './g2p_score.mjs'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    beams: { type: 'string', default: '1' },
    batch: { type: 'string', default: '128' },
    backend: { type: 'string', default: 'native' },
    metrics: { type: 'string' },
    dtype: { type: 'string', default: 'auto' },
  },
})
const beams = Number(values.beams)
const rows = parse_rows(readFileSync(positionals[0], 'utf8'))
const path = embedded_model_path()
const tokenizer = await AutoTokenizer.from_pretrained(path)
const model = await SwitchTransformersForConditionalGeneration.from_pretrained(path, {
  backend: values.backend,
  dtype: values.dtype,
})

const started = performance.now()
const answers = []
for (let i = 0; i < rows.length; i += Number(values.batch)) {
  const words = rows.slice(i, i + Number(values.batch)).map((row) => row.word)
  const ids = await model.generate({ ...tokenizer(words, { padding: true }), ...(beams > 1 && { num_beams: beams }) })
  answers.push(...tokenizer.batch_decode(ids, { skip_special_tokens: true }))
}
const seconds = (performance.now() - started) / 1000
await model.dispose()
await terminate_backends()

const result = evaluate(rows, answers, beams > 1 ? 'beam4' : 'greedy')
for (const { word, answer, reference } of result.differing.slice(0, 30))
  console.log(`${word}: ${answer} (${reference})`)
console.log(
  `${result.equal} of ${rows.length} equal to the reference's (${model.backend}, ${beams} beams, ${seconds.toFixed(1)} s)`,
)
console.log(
  `phoneme error rate ${result.phoneme_error_rate.toFixed(6)}, word error rate ${result.word_error_rate.toFixed(6)}`,
)
if (values.metrics !== undefined) {
  const reference = JSON.parse(readFileSync(values.metrics, 'utf8'))[beams > 1 ? 'beam4' : 'greedy']
  const off = (name) => Math.abs(result[name] - reference[name])
  const good =
    result.equal >= Math.ceil((rows.length * 6300) / 6319) &&
    off('phoneme_error_rate') <= 0.0005 &&
    off('word_error_rate') <= 0.0005
  console.log(
    `reference: ${reference.phoneme_error_rate.toFixed(6)}, ${reference.word_error_rate.toFixed(6)}: ${good ? 'within' : 'MISSED'}`,
  )
  process.exitCode = good ? 0 : 1
}

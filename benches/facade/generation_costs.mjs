/**
 * What generation costs beside the model, at base-8 dimensions (weights drawn here; the numbers do not depend on them):
 *
 *   node benches/facade/generation_costs.mjs [--dtype float32|bfloat16] [--runs 5] [--tokens 32]
 *     [--part beams|processors|staggered|all]
 *
 * - beam search with 4 beams against greedy with a batch of 4: the model's work is the same;
 * - every common processor on against none, per decode step;
 * - a batch of 32 whose rows end one after another against the tokens that it produces (`staggered.mjs`).
 *
 * Runs are interleaved and medians compared. A result of the wrong length is not timed.
 */

import { parseArgs } from 'node:util'
import { SwitchTransformersForConditionalGeneration } from 'switch-transformers'
import { median } from '../peers/statistics.mjs'
import { staggered_base_8, staggered_embedded } from './staggered.mjs'

const { values } = parseArgs({
  options: {
    dtype: { type: 'string', default: 'bfloat16' },
    runs: { type: 'string', default: '5' },
    tokens: { type: 'string', default: '32' },
    part: { type: 'string', default: 'all' },
  },
})
const RUNS = Number(values.runs)
const TOKENS = Number(values.tokens)
const wanted = (part) => values.part === 'all' || values.part === part
const BASE_8 = {
  d_ff: 3072,
  num_sparse_encoder_layers: 6,
  num_sparse_decoder_layers: 6,
  decoder_start_token_id: 0,
}

const model = await SwitchTransformersForConditionalGeneration.from_config(BASE_8, { seed: 1, dtype: values.dtype })
const input = (rows, length = 64) =>
  Array.from({ length: rows }, (_, r) => Array.from({ length }, (_, i) => ((i * 7919 + r * 104729) % 31000) + 2))

/** No row ends by itself. */
const EXACT = { min_new_tokens: TOKENS, max_new_tokens: TOKENS, do_sample: false }

async function timed(rows, options) {
  const start = performance.now()
  const ids = await model.generate({ input_ids: input(rows), ...options })
  return { ms: performance.now() - start, ids }
}

/** Medians of interleaved runs of two ways; each result's width is checked. */
async function compare(a, b) {
  const times = [[], []]
  await a()
  await b()
  for (let run = 0; run < RUNS; run++) {
    for (const [i, way] of [a, b].entries()) {
      const { ms, ids } = await way()
      if (ids.dims[1] !== TOKENS + 1) throw new Error(`found ${ids.dims[1]} tokens, expected ${TOKENS + 1}`)
      times[i].push(ms)
    }
  }
  return times.map(median)
}

if (wanted('beams')) {
  const [beams, greedy] = await compare(
    () => timed(1, { ...EXACT, num_beams: 4 }),
    () => timed(4, EXACT),
  )
  console.log(
    `4 beams ${beams.toFixed(0)} ms, greedy with a batch of 4 ${greedy.toFixed(0)} ms: ${(beams / greedy).toFixed(3)} × (bar 1.15)`,
  )
}

if (wanted('processors')) {
  const COMMON = {
    repetition_penalty: 1.1,
    no_repeat_ngram_size: 3,
    bad_words_ids: [[5], [9, 11]],
    suppress_tokens: [3, 4],
    encoder_no_repeat_ngram_size: 4,
    exponential_decay_length_penalty: [TOKENS, 1.1],
  }
  const [processed, plain] = await compare(
    () => timed(1, { ...EXACT, ...COMMON }),
    () => timed(1, EXACT),
  )
  console.log(
    `all common processors ${processed.toFixed(0)} ms, none ${plain.toFixed(0)} ms: ${((processed / plain - 1) * 100).toFixed(1)} % more (bar 2 %)`,
  )
}

if (wanted('staggered')) {
  await staggered_base_8(model, { rows: 32, longest: TOKENS * 2, runs: RUNS, input })
  await staggered_embedded({ rows: 32, longest: 16, runs: 60 })
}
await model.dispose()

/**
 * What generation costs beside the model, at base-8 dimensions (weights drawn here; the numbers do not depend on them):
 *
 *   node benches/facade/generation_costs.mjs [--dtype float32|bfloat16] [--runs 5] [--tokens 32]
 *
 * - beam search with 4 beams against greedy with a batch of 4: the model's work is the same;
 * - every common processor on against none, per decode step;
 * - a batch of 32 whose rows end one after another against the tokens that it produces.
 *
 * Runs are interleaved and medians compared. A result of the wrong length is not timed.
 */

import { parseArgs } from 'node:util'
import { SwitchTransformersForConditionalGeneration } from 'switch-transformers'

const { values } = parseArgs({
  options: {
    dtype: { type: 'string', default: 'bfloat16' },
    runs: { type: 'string', default: '5' },
    tokens: { type: 'string', default: '32' },
  },
})
const RUNS = Number(values.runs)
const TOKENS = Number(values.tokens)
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

function median(list) {
  const sorted = [...list].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]
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

const [beams, greedy] = await compare(
  () => timed(1, { ...EXACT, num_beams: 4 }),
  () => timed(4, EXACT),
)
console.log(
  `4 beams ${beams.toFixed(0)} ms, greedy with a batch of 4 ${greedy.toFixed(0)} ms: ${(beams / greedy).toFixed(3)} × (bar 1.15)`,
)

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

// Row r ends after (r + 1) / 32 of the longest: half the tokens of a batch in which all go on.
const ROWS = 32
const LONGEST = TOKENS * 2
const times = { all: [], some: [] }
const produced = { all: 0, some: 0 }
for (let run = 0; run <= RUNS; run++) {
  for (const kind of ['all', 'some']) {
    let steps = 0
    const start = performance.now()
    let tokens = 0
    const options = { min_new_tokens: LONGEST, max_new_tokens: LONGEST, do_sample: false }
    const criteria = (input_ids) => {
      steps = input_ids[0].length - 1
      tokens += input_ids.length
      // Rows are told apart by their place among those still alive: the last ones end first.
      const alive = kind === 'all' ? ROWS : Math.max(1, Math.round(ROWS * (1 - steps / LONGEST)))
      return input_ids.map((_, i) => i >= alive)
    }
    await model.generate({ input_ids: input(ROWS), ...options, stopping_criteria: [criteria] })
    if (run > 0) times[kind].push(performance.now() - start)
    produced[kind] = tokens
  }
}
const share = produced.some / produced.all
const ratio = median(times.some) / median(times.all)
console.log(
  `batch of 32, rows ending in turn: ${(share * 100).toFixed(0)} % of the tokens in ${(ratio * 100).toFixed(0)} % of the time: ${(ratio / share).toFixed(3)} × (bar 1.15)`,
)
await model.dispose()

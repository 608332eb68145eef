/**
 * A batch whose rows end one after another: what does a finished row still cost?
 *
 * Two models, because what a step costs is made of two things: work for each row alive, and one read of every weight that
 * any of them needs. The embedded model's weights stay in the processor's cache, so that its time is the rows'; base-8's
 * come from memory in every step, for one row nearly as many bytes as for 32, and no engine's time can follow the tokens.
 * There the time is held against batches that never had the finished rows.
 *
 * Time is counted from the first token on: encoding is done before any row can end. With it the ratio is printed too.
 */

import { AutoTokenizer, embedded_model_path, SwitchTransformersForConditionalGeneration } from 'switch-transformers'
import { load_dictionary } from '../../examples/training/g2p/data.mjs'
import { median } from '../peers/statistics.mjs'

const BAR = 1.15
const verdict = (ratio) => `${ratio.toFixed(3)} × (bar ${BAR})`

/** Words by how many tokens the model answers them with, the end of sequence included. */
async function words_by_answer_length(model, tokenizer, eos) {
  const { train } = await load_dictionary()
  const words = [...new Set(train.map(({ source }) => source))].filter((word, i) => i % 20 === 0 || word.length > 14)
  const found = new Map()
  for (let i = 0; i < words.length; i += 128) {
    const batch = words.slice(i, i + 128)
    const lengths = await answer_lengths(model, await tokenizer(batch, { padding: true }), eos)
    lengths.forEach((length, j) => {
      found.set(length, [...(found.get(length) ?? []), batch[j]])
    })
  }
  return found
}

async function answer_lengths(model, encoded, eos, max_new_tokens = 40) {
  const ids = await model.generate({ ...encoded, max_new_tokens })
  return ids.tolist().map((row) => {
    const end = row.map(Number).indexOf(eos, 1)
    return end < 0 ? row.length - 1 : end
  })
}

/** The embedded model on real words: answers of 2 to `longest` tokens, two of each length, against as many of the longest. */
export async function staggered_embedded({ rows, longest, runs }) {
  const path = embedded_model_path()
  const tokenizer = await AutoTokenizer.from_pretrained(path)
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained(path, { dtype: 'float32' })
  const eos = model.config.eos_token_id
  const by_length = await words_by_answer_length(model, tokenizer, eos)
  const wanted = {
    some: Array.from({ length: rows }, (_, r) => [Math.max(2, Math.floor((r * longest) / rows) + 1), r % 2]),
    all: Array.from({ length: rows }, (_, r) => [longest, r]),
  }
  const batches = {}
  for (const [kind, picks] of Object.entries(wanted)) {
    const words = picks.map(([length, place]) => by_length.get(length)?.[place])
    if (words.includes(undefined)) throw new Error(`too few words with the answer lengths wanted for "${kind}"`)
    batches[kind] = await tokenizer(words, { padding: 'max_length', max_length: 20, truncation: true })
  }

  const times = { some: [], all: [], some_first: [], all_first: [] }
  const tokens = {}
  for (let run = -10; run < runs; run++) {
    for (const [kind, encoded] of Object.entries(batches)) {
      let start = performance.now()
      const lengths = await answer_lengths(model, encoded, eos)
      if (run >= 0) times[kind].push(performance.now() - start)
      tokens[kind] = lengths.reduce((sum, length) => sum + length, 0)
      start = performance.now()
      await answer_lengths(model, encoded, eos, 1)
      if (run >= 0) times[`${kind}_first`].push(performance.now() - start)
    }
  }
  const after_first = (kind) =>
    (median(times[kind]) - median(times[`${kind}_first`])) / (tokens[kind] - batches[kind].input_ids.dims[0])
  const decode = after_first('some') / after_first('all')
  const whole = median(times.some) / tokens.some / (median(times.all) / tokens.all)
  console.log(
    `embedded model, batch of ${rows}, answers of 2 to ${longest} tokens (${tokens.some}) against ${longest} each ` +
      `(${tokens.all}): time per token ${verdict(decode)}, with the encoder's ${verdict(whole)}`,
  )
  await model.dispose()
}

/** Row r ends after (r + 1) / rows of the longest; decode time against the tokens, and against batches of the rows alive. */
export async function staggered_base_8(model, { rows, longest, runs, input }) {
  const exact = { min_new_tokens: longest, max_new_tokens: longest, do_sample: false }

  /** Milliseconds of every step after the first, with the rows that it was for. */
  async function steps(batch, alive_after) {
    const found = []
    let last
    const criteria = (input_ids) => {
      const now = performance.now()
      if (last !== undefined) found.push({ rows: input_ids.length, ms: now - last })
      last = performance.now()
      const alive = alive_after(input_ids[0].length - 1)
      // Rows are told apart by their place among those still alive: the last ones end first.
      return input_ids.map((_, i) => i >= alive)
    }
    await model.generate({ input_ids: input(batch), ...exact, stopping_criteria: [criteria] })
    return found
  }

  const staggered = (step) => Math.max(1, Math.round(rows * (1 - step / longest)))
  const sizes = [1, 2, 4, 8, 12, 16, 24, rows]
  const alone = new Map(sizes.map((size) => [size, []]))
  const some = []
  for (let run = 0; run <= runs; run++) {
    const taken = await steps(rows, staggered)
    if (run > 0) some.push(taken)
    for (const size of sizes) {
      const ms = median((await steps(size, () => size)).map((step) => step.ms))
      if (run > 0) alone.get(size).push(ms)
    }
  }
  const step_of = (size) => {
    const above = sizes.findIndex((one) => one >= size)
    const upper = median(alone.get(sizes[above]))
    if (sizes[above] === size) return upper
    const lower = median(alone.get(sizes[above - 1]))
    return lower + ((upper - lower) * (size - sizes[above - 1])) / (sizes[above] - sizes[above - 1])
  }
  const total = (list, of) => list.reduce((sum, step) => sum + of(step), 0)
  const found = median(some.map((taken) => total(taken, (step) => step.ms)))
  const never_there = total(some[0], (step) => step_of(step.rows))
  const in_proportion = total(some[0], (step) => (step.rows * step_of(rows)) / rows)
  console.log(
    `base-8, batch of ${rows}, rows ending in turn: ${found.toFixed(0)} ms; batches without the finished rows ` +
      `${never_there.toFixed(0)} ms: ${verdict(found / never_there)}; in proportion to the tokens ` +
      `${in_proportion.toFixed(0)} ms: ${verdict(found / in_proportion)}, of which reading the weights: one row's step ` +
      `takes ${step_of(1).toFixed(0)} ms, ${rows} rows' ${step_of(rows).toFixed(0)} ms`,
  )
}

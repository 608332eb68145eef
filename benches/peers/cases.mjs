/** What is timed, and what both sides are asked. Ids come from a seed, so that others can be drawn: see verify.mjs. */

import { some_ids } from './statistics.mjs'

const NEW_TOKENS = 33

const encode = (rows, tokens) => ({
  name: `encode ${rows}×${tokens}`,
  kind: 'encode',
  rows,
  tokens,
  produced: rows * tokens,
  request: (seed) => ({ op: 'encode', ids: some_ids(rows, tokens, seed) }),
})

const generate = (rows) => ({
  name: `generate ${NEW_TOKENS} after 64, batch ${rows}`,
  kind: 'generate',
  rows,
  tokens: 64,
  produced: rows * NEW_TOKENS,
  steps: NEW_TOKENS,
  request: (seed, new_tokens = NEW_TOKENS) => ({ op: 'generate', ids: some_ids(rows, 64, seed), new_tokens }),
})

export const CASES = [encode(1, 128), encode(1, 512), encode(8, 128), generate(1), generate(8)]

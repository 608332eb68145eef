/** Pairs to train on: words and pronunciations of the dictionary's training part, the first of a seeded order. */

import { load_dictionary } from '../../examples/training/g2p/data.mjs'

/** Numbers below 2 ** 32, the same for the same seed (a linear congruential generator). */
export function generator(seed) {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

export async function load_pairs(count, seed = 1) {
  const { train } = await load_dictionary()
  const random = generator(seed)
  return Array.from({ length: count }, () => train[Math.floor(random() * train.length)])
}

export const TOKENIZER = { type: 'pattern', pattern: '[A-Z]+[0-9]?|[^A-Z]', model_max_length: 64 }

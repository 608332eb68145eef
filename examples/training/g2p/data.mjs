/**
 * The data of the embedded model: words and their pronunciations from the CMU Pronouncing Dictionary.
 *
 * Copyright (C) 1993-2015 Carnegie Mellon University, BSD-style licence: redistribution with its notice (see the README of
 * the embedded model, ts/assets/g2p). Taken from the npm package `cmu-pronouncing-dictionary` 3.0.0 (ISC).
 *
 * Words made of a-z, apostrophe, full stop and hyphen; variants such as `a(2)` belong to their word. Split by the word's
 * SHA-1 modulo 1000: below 50 test, 50 to 59 validation, the rest training.
 */

import { createHash } from 'node:crypto'

/** SHA-1 of the word as a whole number, modulo 1000. */
function bucket(word) {
  return Number(BigInt(`0x${createHash('sha1').update(word).digest('hex')}`) % 1000n)
}

/**
 * @returns {Promise<{ train: { source: string, target: string }[], validation: { source: string, target: string[] }[],
 *   test: { source: string, target: string[] }[] }>}
 */
export async function load_dictionary() {
  const { dictionary } = await import('cmu-pronouncing-dictionary').catch((cause) => {
    throw new Error('The dictionary is missing: npm install cmu-pronouncing-dictionary@3.0.0', { cause })
  })
  const words = new Map()
  for (const [entry, pronunciation] of Object.entries(dictionary)) {
    const word = entry.replace(/\(\d+\)$/, '')
    if (!/^[a-z'.-]+$/.test(word)) continue
    const phonemes = pronunciation.split('#')[0].trim()
    words.set(word, [...(words.get(word) ?? []), phonemes])
  }
  const split = { train: [], validation: [], test: [] }
  for (const [source, target] of words) {
    const number = bucket(source)
    if (number < 50) split.test.push({ source, target })
    else if (number < 60) split.validation.push({ source, target })
    else split.train.push(...target.map((one) => ({ source, target: one })))
  }
  return split
}

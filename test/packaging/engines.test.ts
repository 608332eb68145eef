/** What a page loads first asks no more of an engine than the first ones with SIMD have: Chrome 91, Safari 16.4. */

import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const dist = fileURLToPath(new URL('../../dist/', import.meta.url))

/** By the Chrome and Safari that brought it. Names alone: what has a fallback is listed by nobody. */
const NEWER: [what: string, pattern: RegExp][] = [
  ['Object.hasOwn: 93, 15.4', /\bObject\.hasOwn\b/],
  ['structuredClone: 98, 15.4', /\bstructuredClone\b/],
  ['array.at: 92, 15.4', /\.at\(-/],
  ['array.findLast: 97, 15.4', /\.findLast(?:Index)?\(/],
  ['array.toSorted and its like: 110, 16', /\.to(?:Sorted|Reversed|Spliced)\(/],
  ['URL.canParse: 120, 17', /\bcanParse\b/],
  ['AbortSignal.timeout: 103, 16', /\bAbortSignal\.timeout\b/],
  ['AbortSignal.any: 116, 17.4', /\bAbortSignal\.any\b/],
  ['Promise.withResolvers: 119, 17.4', /\bwithResolvers\b/],
  ['Object.groupBy: 117, 17.4', /\bgroupBy\b/],
  ['Array.fromAsync: 121, 16.4', /\bfromAsync\b/],
  ['static blocks: 94, 16.4', /\bstatic\s*\{/],
  ['the flag v of regular expressions: 112, 17', /\/[a-z]*v[a-z]*\.(?:test|exec)\(/],
]

/** A file of the bundle and all that it imports at once. */
function loaded_with(entry: string): string[] {
  const files = new Set([entry])
  for (const file of files) {
    const text = readFileSync(dist + file, 'utf8')
    for (const [, imported] of text.matchAll(/(?:\bfrom|\bimport)\s*["'`]\.\/([\w.-]+\.js)["'`]/g)) {
      if (existsSync(dist + imported)) files.add(imported as string)
    }
  }
  return [...files]
}

it.each(['browser.js', 'wasm_worker.js'])('%s', (entry) => {
  const files = loaded_with(entry)
  const found = files.flatMap((file) => {
    const text = readFileSync(dist + file, 'utf8')
    return NEWER.filter(([, pattern]) => pattern.test(text)).map(([what]) => `${file}: ${what}`)
  })
  expect(found).toEqual([])
})

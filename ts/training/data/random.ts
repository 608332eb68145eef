/**
 * Seeded randomness: pure-rand's xoroshiro128+ (MIT, 1 kB), one generator per purpose.
 *
 * A generator is named by numbers (seed, epoch, example, …), so that what it draws depends on nothing that was drawn
 * before: an epoch's order can be made again from its number alone, which is what exact resuming rests on.
 */

import { uniformInt } from 'pure-rand/distribution/uniformInt'
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus'
import type { RandomGenerator } from 'pure-rand/types/RandomGenerator'

/** A generator of its own for these numbers. */
export function random(...numbers: number[]): RandomGenerator {
  let hash = 0x9e3779b9
  for (const number of numbers) {
    // Both halves of a safe integer count.
    hash = mix(hash ^ (number >>> 0))
    hash = mix(hash ^ Math.floor(number / 2 ** 32))
  }
  return xoroshiro128plus(hash | 0)
}

/** The finaliser of MurmurHash3: neighbouring numbers give unrelated seeds. */
function mix(value: number): number {
  let h = (value + 0x7ed55d16) | 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}

/** Puts a list in random order, in place. */
export function shuffle<T extends { length: number; [index: number]: unknown }>(
  list: T,
  generator: RandomGenerator,
): T {
  for (let last = list.length - 1; last > 0; last--) {
    const other = uniformInt(generator, 0, last)
    const value = list[last]
    list[last] = list[other]
    list[other] = value
  }
  return list
}

/** `count` different numbers below `below`, as flags. */
export function choose(count: number, below: number, generator: RandomGenerator): Uint8Array {
  const flags = new Uint8Array(below).fill(1, 0, count)
  return shuffle(flags, generator)
}

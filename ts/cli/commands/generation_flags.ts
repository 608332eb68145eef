/** Flags of `generate` that are generation options. */

import type { Command } from 'commander'
import { UsageError } from '../exit.js'
import { integer_value, key_value, number_value } from '../flags.js'

type Kind = 'integer' | 'number' | 'flag'

/** The options that are used often; every other is reached by `--option name=value`. */
const FLAGS: readonly (readonly [name: string, kind: Kind, about: string])[] = [
  ['max_new_tokens', 'integer', 'longest output in new tokens'],
  ['max_length', 'integer', 'longest output, start token included'],
  ['min_new_tokens', 'integer', 'shortest output in new tokens'],
  ['num_beams', 'integer', 'beams per text'],
  ['num_return_sequences', 'integer', 'results per text'],
  ['length_penalty', 'number', 'above 0 favours longer beams'],
  ['do_sample', 'flag', 'draw tokens instead of taking the best'],
  ['temperature', 'number', 'below 1 sharpens, above 1 flattens'],
  ['top_k', 'integer', 'draw from the k best tokens'],
  ['top_p', 'number', 'draw from the best tokens that make up p'],
  ['min_p', 'number', 'draw from tokens of at least p times the best'],
  ['repetition_penalty', 'number', 'above 1 discourages repetition'],
  ['no_repeat_ngram_size', 'integer', 'repeat no sequence of this length'],
  ['max_time', 'number', 'seconds after which no step begins'],
  ['seed', 'integer', 'the same seed draws the same tokens'],
]

const PARSERS = { integer: integer_value, number: number_value } as const

export function add_generation_flags(command: Command): Command {
  for (const [name, kind, about] of FLAGS) {
    const long = `--${name.replaceAll('_', '-')}`
    if (kind === 'flag') command.option(long, about)
    else command.option(`${long} <${kind}>`, about, (text: string) => PARSERS[kind](text))
  }
  return command
    .option('--stop-string <text>', 'end a row where this text appears; may be repeated', collect)
    .option('--option <name=json>', 'any other generation option; may be repeated', key_value)
}

/** The generation options among parsed flags. `--option` may not repeat one that has its own flag. */
export function generation_options(flags: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const options: Record<string, unknown> = {}
  for (const [name] of FLAGS) {
    const value = flags[camel_case(name)]
    if (value !== undefined) options[name] = value
  }
  if (flags.stopString !== undefined) options.stop_strings = flags.stopString
  for (const [name, value] of Object.entries((flags.option ?? {}) as Record<string, unknown>)) {
    if (name in options) throw new UsageError(`${name} is given twice, by its flag and by --option.`)
    options[name] = value
  }
  return options
}

function collect(text: string, collected: string[] = []): string[] {
  return [...collected, text]
}

/** The name under which the argument parser keeps a flag. */
function camel_case(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
}

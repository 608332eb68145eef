/** Truncation and padding, by the reference's rules. */

import { InputError, OptionError } from '../errors.js'
import type { PostProcessor, Processed } from './post_processor.js'
import type { Token } from './types.js'

export type PaddingOption = boolean | 'longest' | 'max_length' | 'do_not_pad'
export type TruncationOption = boolean | 'longest_first' | 'only_first' | 'only_second' | 'do_not_truncate' | null

/** What is to be done to the rows of a call, every default filled in. */
export interface Plan {
  /** Rows are cut to this; `null`: they are not cut. */
  truncate_to: number | null
  truncation: 'longest_first' | 'only_first' | 'only_second'
  /** Rows are padded to the longest, to a length, or not at all. */
  pad_to: 'longest' | number | null
  pad_to_multiple_of: number
}

export interface PlanOptions {
  padding?: PaddingOption | undefined
  truncation?: TruncationOption | undefined
  max_length?: number | null
  pad_to_multiple_of?: number | null
}

/** A `model_max_length` beyond this means that there is none. */
const NO_LIMIT = 1e20
/** Elements of a batch, padding included. Bounds what a mistaken `max_length` allocates. */
const MAX_ELEMENTS = 2 ** 26

/** Reads the options of a call. Throws INVALID_OPTION for what they cannot be. */
export function make_plan(options: PlanOptions, model_max_length: number): Plan {
  const { max_length, pad_to_multiple_of } = options
  check_length('max_length', max_length, 0)
  check_length('pad_to_multiple_of', pad_to_multiple_of, 1)
  const padding = choose('padding', options.padding ?? false, { true: 'longest', false: 'do_not_pad' }, [
    'longest',
    'max_length',
    'do_not_pad',
  ])
  // A max_length on its own asks for truncation.
  const implied = options.truncation ?? (typeof max_length === 'number' && (options.padding ?? false) === false)
  const truncation = choose('truncation', implied, { true: 'longest_first', false: 'do_not_truncate' }, [
    'longest_first',
    'only_first',
    'only_second',
    'do_not_truncate',
  ])
  const limit = max_length ?? (model_max_length > NO_LIMIT ? null : model_max_length)
  if (
    truncation !== 'do_not_truncate' &&
    padding !== 'do_not_pad' &&
    limit !== null &&
    limit % (pad_to_multiple_of ?? 1)
  ) {
    throw new OptionError(
      'INVALID_OPTION',
      `Rows are cut to max_length, ${limit}, and padded to a multiple of ${pad_to_multiple_of}, but the one is no multiple of the other.`,
    )
  }
  return {
    truncate_to: truncation === 'do_not_truncate' ? null : limit,
    truncation: truncation === 'do_not_truncate' ? 'longest_first' : (truncation as Plan['truncation']),
    pad_to: padding === 'longest' ? 'longest' : padding === 'max_length' ? limit : null,
    pad_to_multiple_of: pad_to_multiple_of ?? 1,
  }
}

function check_length(name: string, value: unknown, least: number): void {
  if (value === undefined || value === null) return
  if (!Number.isSafeInteger(value) || (value as number) < least) {
    throw new OptionError('INVALID_OPTION', `${name} is ${String(value)}; expected an integer of at least ${least}.`)
  }
}

function choose(name: string, value: unknown, flags: Record<string, string>, choices: string[]): string {
  const chosen = typeof value === 'boolean' ? flags[String(value)]! : value
  if (typeof chosen === 'string' && choices.includes(chosen)) return chosen
  throw new OptionError(
    'INVALID_OPTION',
    `${name} is ${JSON.stringify(value)}; expected true, false or one of ${choices.join(', ')}.`,
  )
}

/** A row as the plan wants it: cut to length, special tokens around it. */
export function assemble(
  tokens: Token[],
  pair: Token[] | null,
  plan: Plan,
  side: 'left' | 'right',
  post_processor: PostProcessor,
  add_special_tokens: boolean,
): Processed {
  if (plan.truncate_to === null) return post_processor.process(tokens, pair, add_special_tokens)
  const special = add_special_tokens ? post_processor.added(pair !== null) : 0
  const room = plan.truncate_to - special
  if (room < 0) {
    throw new OptionError(
      'INVALID_OPTION',
      `max_length is ${plan.truncate_to}, but the ${special} special tokens alone are more.`,
    )
  }
  const [first, second] = lengths(tokens.length, pair?.length ?? null, room, plan.truncation)
  const cut = (row: Token[], length: number) =>
    side === 'right' ? row.slice(0, length) : row.slice(row.length - length)
  return post_processor.process(cut(tokens, first), pair === null ? null : cut(pair, second), add_special_tokens)
}

/** How much is kept of a sequence and its pair. */
function lengths(first: number, second: number | null, room: number, strategy: Plan['truncation']): [number, number] {
  const excess = first + (second ?? 0) - room
  if (excess <= 0) return [first, second ?? 0]
  if (strategy === 'longest_first') {
    if (second === null) return [room, 0]
    const half = Math.floor(room / 2)
    const shorter = Math.min(first, second)
    // The longer one is cut down to what the shorter leaves, and when that is less than the shorter, both to half.
    const [short, long] = shorter <= half ? [shorter, room - shorter] : [half, room - half]
    return first <= second ? [short, long] : [long, short]
  }
  if (second === null && strategy === 'only_second') {
    throw new OptionError('INVALID_OPTION', "truncation is 'only_second', but there is no text_pair.")
  }
  const target = strategy === 'only_first' ? first : second!
  if (target <= excess) {
    throw new InputError(
      `truncation: '${strategy}' would have to remove ${excess} tokens from a sequence of ${target} to fit max_length.`,
    )
  }
  return strategy === 'only_first' ? [first - excess, second ?? 0] : [first, second! - excess]
}

/** The length that rows are padded to, or `null`. */
export function padded_length(rows: Processed[], plan: Plan): number | null {
  if (plan.pad_to === null) return null
  const longest = rows.reduce((most, row) => Math.max(most, row.tokens.length), 0)
  const length = plan.pad_to === 'longest' ? longest : plan.pad_to
  const padded = Math.ceil(length / plan.pad_to_multiple_of) * plan.pad_to_multiple_of
  if (padded * rows.length > MAX_ELEMENTS) {
    throw new OptionError(
      'INVALID_OPTION',
      `Padding ${rows.length} rows to ${padded} tokens makes more than ${MAX_ELEMENTS} elements.`,
    )
  }
  return padded
}

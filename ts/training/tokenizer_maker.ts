/** Tokenizers made from the data themselves, for models that begin from nothing: a `tokenizer.json` that the reference loads. */

import { InputError, OptionError } from '../errors.js'
import { PreTrainedTokenizer } from '../tokenizer/pre_trained.js'
import { show } from '../utils/json.js'
import { turns } from './data/turns.js'
import type { MakeTokenizerOptions } from './make_tokenizer.js'

const SPECIAL = ['<pad>', '</s>', '<unk>'] as const
const SPACE = '\u2581'
const OPTIONS = ['type', 'pattern', 'vocab_size', 'sentinels', 'model_max_length']

/** See `make_tokenizer`. */
export async function tokenizer_of(
  texts: Iterable<string> | AsyncIterable<string>,
  options: MakeTokenizerOptions = {},
): Promise<PreTrainedTokenizer> {
  const { type = 'char', pattern, vocab_size = 8192, sentinels = 0, model_max_length = 512 } = options
  const unknown = Object.keys(options).filter((name) => !OPTIONS.includes(name))
  if (unknown.length > 0) throw invalid(unknown[0] as string, `is unknown; there are ${OPTIONS.join(', ')}`)
  if (!['char', 'word', 'pattern'].includes(type))
    throw invalid('type', `must be char, word or pattern; found ${show(type)}`)
  if ((type === 'pattern') !== (typeof pattern === 'string' && pattern !== '')) {
    throw invalid('pattern', "is a regular expression, needed for type: 'pattern' and for no other")
  }
  for (const [name, value, least] of [
    ['vocab_size', vocab_size, SPECIAL.length + 1],
    ['sentinels', sentinels, 0],
    ['model_max_length', model_max_length, 2],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < least || value > 2 ** 22) {
      throw invalid(name, `must be an integer from ${least} to ${2 ** 22}; found ${show(value)}`)
    }
  }
  const room = vocab_size - SPECIAL.length - sentinels
  if (room < 1) throw invalid('vocab_size', `of ${vocab_size} leaves no room beside ${sentinels} sentinels`)
  const pieces = await most_frequent(texts, splitter(type, pattern), room)
  return new PreTrainedTokenizer(definition(type, pattern, pieces, sentinels), {
    tokenizer_class: 'PreTrainedTokenizerFast',
    pad_token: SPECIAL[0],
    eos_token: SPECIAL[1],
    unk_token: SPECIAL[2],
    model_max_length,
    clean_up_tokenization_spaces: false,
  })
}

/** The pieces of a text that are counted. The first kind is whole words, which characters can always spell. */
function splitter(type: string, pattern: string | undefined): (text: string) => string[] {
  if (type === 'pattern') {
    let expression: RegExp
    try {
      expression = new RegExp(pattern as string, 'gu')
    } catch (cause) {
      throw new OptionError('INVALID_OPTION', `pattern is no regular expression: ${String(cause)}.`, { cause })
    }
    return (text) =>
      text
        .split(/\s+/u)
        .flatMap((word) => [...word.matchAll(expression)].map(([match]) => match).filter((match) => match !== ''))
  }
  const spaced = (text: string) => `${SPACE}${text.replaceAll(' ', SPACE)}`
  if (type === 'char') return (text) => [...spaced(text)]
  return (text) =>
    spaced(text)
      .split(new RegExp(`(?=${SPACE})`, 'u'))
      .flatMap((word) => [word, ...word])
}

async function most_frequent(
  texts: Iterable<string> | AsyncIterable<string>,
  split: (text: string) => string[],
  room: number,
): Promise<[piece: string, count: number][]> {
  const counts = new Map<string, number>()
  const turn = turns()
  for await (const text of texts) {
    for (const piece of split(text.replace(/\p{Cs}/gu, ''))) {
      if (!SPECIAL.includes(piece as never)) counts.set(piece, (counts.get(piece) ?? 0) + 1)
    }
    await turn()
  }
  if (counts.size === 0) throw new InputError('A tokenizer cannot be made from texts that hold nothing.')
  const characters = [...counts].filter(([piece]) => [...piece].length === 1)
  const longer = [...counts].filter(([piece]) => [...piece].length > 1)
  const by_count = (a: [string, number], b: [string, number]) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)
  // Characters first: without them, a word that is not among the tokens is lost altogether.
  return [...characters.sort(by_count), ...longer.sort(by_count)].slice(0, room)
}

function definition(
  type: string,
  pattern: string | undefined,
  pieces: readonly (readonly [string, number])[],
  sentinels: number,
): object {
  const total = pieces.reduce((sum, [, count]) => sum + count, 0)
  const extra = Array.from({ length: sentinels }, (_, number) => `<extra_id_${number}>`)
  // Of a word and its characters the word is better, and of two words the one that is more frequent.
  const score = (piece: string, count: number) =>
    type === 'word' && [...piece].length === 1 ? -20 : Math.log(count / total)
  const vocab = [
    [SPECIAL[0], 0],
    [SPECIAL[1], 0],
    [SPECIAL[2], -100],
    ...pieces.map(([piece, count]) => [piece, type === 'pattern' ? -4 : score(piece, count)]),
    ...extra.map((sentinel) => [sentinel, 0]),
  ]
  const added = [
    ...SPECIAL.entries(),
    ...extra.map((token, at) => [SPECIAL.length + pieces.length + at, token] as const),
  ]
  const metaspace = { type: 'Metaspace', replacement: SPACE, prepend_scheme: 'always', split: true }
  const end = (id: string) => ({ Sequence: { id, type_id: 0 } })
  const eos = { SpecialToken: { id: SPECIAL[1], type_id: 0 } }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added.map(([id, content]) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer:
      type === 'pattern'
        ? {
            type: 'Sequence',
            pretokenizers: [
              { type: 'WhitespaceSplit' },
              { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
            ],
          }
        : metaspace,
    post_processor: {
      type: 'TemplateProcessing',
      single: [end('A'), eos],
      pair: [end('A'), eos, end('B'), eos],
      special_tokens: { [SPECIAL[1]]: { id: SPECIAL[1], ids: [1], tokens: [SPECIAL[1]] } },
    },
    decoder: type === 'pattern' ? null : metaspace,
    model: { type: 'Unigram', unk_id: 2, vocab, byte_fallback: false },
  }
}

function invalid(option: string, message: string): OptionError {
  return new OptionError('INVALID_OPTION', `${option} ${message}.`, { details: { option } })
}

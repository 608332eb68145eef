/** Tokenizer files from anywhere: whatever is wrong with them is said, and nothing hangs. */

import { beforeAll, describe, expect, it } from 'vitest'
import { FileError, InputError, SwitchTransformersError, TokenizerError } from '../../ts/errors.js'
import { parse_json } from '../../ts/tokenizer/field.js'
import { AutoTokenizer } from '../../ts/tokenizer/index.js'
import { translate_regex } from '../../ts/tokenizer/regex.js'
import { fixture, read_json } from './library.js'
import { read_bytes, reader } from './tokenizer_files.js'

const folder = fixture('tokenizer')
type Json = Record<string, unknown>
let base: Json & { model: Json; added_tokens: Json[] }
let spiece: Uint8Array

beforeAll(async () => {
  base = await read_json(folder, 'tokenizer.json')
  spiece = await read_bytes(folder, 'spiece.model')
})

/** A generic tokenizer, so that every part of the definition counts. */
async function load(
  definition: unknown,
  config: unknown = { eos_token: '</s>', unk_token: '<unk>', pad_token: '<pad>' },
) {
  return AutoTokenizer.from_files(
    await reader(folder, {
      'tokenizer.json': definition as object,
      'tokenizer_config.json': config as object,
      'spiece.model': null,
    }),
  )
}

/** A sequence of a sequence of … */
function nested(depth: number): Json {
  let json: Json = { type: 'NFC' }
  for (let level = 0; level < depth; ++level) json = { type: 'Sequence', normalizers: [json] }
  return json
}

async function failure(promise: Promise<unknown>): Promise<SwitchTransformersError> {
  const error = await promise.then(
    () => new Error('nothing was thrown'),
    (error: unknown) => error,
  )
  expect(error).toBeInstanceOf(SwitchTransformersError)
  return error as SwitchTransformersError
}

describe('tokenizer.json', () => {
  it.each<[string, (json: typeof base) => unknown, string]>([
    ['nothing', () => '', 'not valid JSON'],
    ['a cut file', (json) => JSON.stringify(json).slice(0, 100_000), 'not valid JSON'],
    ['no UTF-8', () => Uint8Array.of(0x7b, 0xff, 0x7d), 'not valid JSON'],
    ['another kind of JSON', () => '[1, 2]', 'its content is an array of 2; expected an object'],
    ['no model', ({ model, ...json }) => json, 'model is missing'],
    [
      'a model of another type',
      (json) => ({ ...json, model: { type: 'BPE', vocab: {}, merges: [] } }),
      'model.type is "BPE"',
    ],
    [
      'no vocabulary',
      (json) => ({ ...json, model: { ...json.model, vocab: 5 } }),
      'model.vocab is 5; expected an array',
    ],
    ['an empty vocabulary', (json) => ({ ...json, model: { ...json.model, vocab: [] } }), 'model.unk_id is 2'],
    [
      'a piece without a score',
      (json) => ({ ...json, model: { ...json.model, vocab: [['a', 0], ['b']] } }),
      'model.vocab[1] is',
    ],
    [
      'a piece that is a number',
      (json) => ({ ...json, model: { ...json.model, vocab: [[5, 0]] } }),
      'model.vocab[0] is',
    ],
    [
      'a score that is a string',
      (json) => ({ ...json, model: { ...json.model, vocab: [['a', '0']] } }),
      'model.vocab[0] is',
    ],
    [
      'an unknown id out of range',
      (json) => ({ ...json, model: { ...json.model, unk_id: 2100 } }),
      'model.unk_id is 2100',
    ],
    ['a negative unknown id', (json) => ({ ...json, model: { ...json.model, unk_id: -1 } }), 'model.unk_id is -1'],
    [
      'an unknown normaliser',
      (json) => ({ ...json, normalizer: { type: 'BertNormalizer' } }),
      'normalizer.type is "BertNormalizer"',
    ],
    ['a normaliser without type', (json) => ({ ...json, normalizer: {} }), 'normalizer.type is missing'],
    [
      'a type from the prototype',
      (json) => ({ ...json, decoder: { type: 'constructor' } }),
      'decoder.type is "constructor"',
    ],
    [
      'a charsmap that is no base64',
      (json) => ({ ...json, normalizer: { type: 'Precompiled', precompiled_charsmap: '$$$' } }),
      'expected base64',
    ],
    [
      'an empty charsmap',
      (json) => ({ ...json, normalizer: { type: 'Precompiled', precompiled_charsmap: '' } }),
      'expected a whole charsmap',
    ],
    [
      'a charsmap whose trie lies about its size',
      (json) => ({ ...json, normalizer: { type: 'Precompiled', precompiled_charsmap: btoa('\xfc\xff\xff\xff0000') } }),
      'expected a whole charsmap',
    ],
    [
      'an unknown pre-tokenizer',
      (json) => ({ ...json, pre_tokenizer: { type: 'ByteLevel' } }),
      'pre_tokenizer.type is "ByteLevel"',
    ],
    [
      'a replacement of two characters',
      (json) => ({ ...json, decoder: { type: 'Metaspace', replacement: '__' } }),
      'expected one character',
    ],
    [
      'a part of a template that is neither',
      (json) => ({
        ...json,
        post_processor: { type: 'TemplateProcessing', single: [{}], pair: [], special_tokens: {} },
      }),
      'SpecialToken',
    ],
    [
      'a template with an unknown token',
      (json) => ({
        ...json,
        post_processor: {
          type: 'TemplateProcessing',
          single: [{ SpecialToken: { id: 'x', type_id: 0 } }],
          pair: [],
          special_tokens: {},
        },
      }),
      'special_tokens.x is missing',
    ],
    [
      'an added token without content',
      (json) => ({ ...json, added_tokens: [{ id: 3 }] }),
      'added_tokens[0].content is missing',
    ],
    [
      'an added id that is no id',
      (json) => ({ ...json, added_tokens: [{ id: 2 ** 31, content: 'x' }] }),
      'added_tokens[0].id is 2147483648',
    ],
    [
      'an added id that is a piece’s',
      (json) => ({ ...json, added_tokens: [{ id: 7, content: '<x>' }] }),
      'with id 7, which is that of ","',
    ],
    [
      'an added id twice',
      (json) => ({
        ...json,
        added_tokens: [
          { id: 3000, content: '<x>' },
          { id: 3000, content: '<y>' },
        ],
      }),
      'expected an id',
    ],
    [
      'a token without end',
      (json) => ({ ...json, added_tokens: [{ id: 3000, content: 'x'.repeat(20_000) }] }),
      'at most 10000 characters',
    ],
    [
      'a piece without end',
      (json) => ({ ...json, model: { ...json.model, vocab: [['x'.repeat(20_000), 0]] } }),
      'at most 10000 characters',
    ],
    ['endless nesting', (json) => ({ ...json, normalizer: nested(500) }), 'expected less nesting'],
    ['added tokens that are no list', (json) => ({ ...json, added_tokens: {} }), 'added_tokens is an object'],
    [
      'a flag that is no flag',
      (json) => ({ ...json, added_tokens: [{ id: 3000, content: 'x', lstrip: 'yes' }] }),
      'added_tokens[0].lstrip is "yes"',
    ],
  ])('%s', async (_, change, message) => {
    const error = await failure(load(change(base)))
    expect(error).toBeInstanceOf(TokenizerError)
    expect(error.code).toBe('TOKENIZER_INVALID')
    expect(error.message).toContain('tokenizer.json')
    expect(error.message).toContain(message)
    expect(error.details).toMatchObject({ file: 'tokenizer.json' })
  })

  it('may have ids far apart without costing memory', async () => {
    const tokenizer = await load({ ...base, added_tokens: [{ id: 2 ** 31 - 1, content: '<far>', special: true }] })
    expect(tokenizer.encode('<far>', { add_special_tokens: false })).toEqual([2 ** 31 - 1])
    expect(tokenizer.decode([2 ** 31 - 1])).toBe('<far>')
    expect(tokenizer.len).toBe(2101)
  })

  it('may repeat a piece, of which the last then counts, as in the reference', async () => {
    const model = {
      type: 'Unigram',
      unk_id: 0,
      vocab: [
        ['<unk>', 0],
        ['a', -1],
        ['a', -2],
      ],
    }
    const tokenizer = await load(
      { ...base, model, normalizer: null, pre_tokenizer: null, post_processor: null, added_tokens: [] },
      {},
    )
    expect(tokenizer.encode('aa')).toEqual([2, 2])
    expect(tokenizer.convert_ids_to_tokens([1, 2])).toEqual(['a', 'a'])
  })

  it('may name no unknown token, and then refuses texts that need one', async () => {
    const model = { type: 'Unigram', unk_id: null, vocab: [['a', -1]] }
    const tokenizer = await load(
      { ...base, model, normalizer: null, pre_tokenizer: null, post_processor: null, added_tokens: [] },
      {},
    )
    expect(tokenizer.encode('aa')).toEqual([0, 0])
    expect(() => tokenizer.encode('ab')).toThrow(InputError)
    expect(() => tokenizer('a', { padding: true, max_length: 3 })).toThrow('no padding token')
  })

  it('may hold pieces named like properties of objects', async () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty']
    const model = { type: 'Unigram', unk_id: 0, vocab: [['<unk>', -20], ...names.map((name) => [name, -1])] }
    const tokenizer = await load(
      {
        ...base,
        model,
        normalizer: null,
        pre_tokenizer: { type: 'WhitespaceSplit' },
        post_processor: null,
        added_tokens: [],
      },
      {},
    )
    expect(tokenizer.encode(names.join(' '))).toEqual([1, 2, 3, 4])
    expect(tokenizer.decode([1, 2])).toBe('__proto__constructor')
    expect(tokenizer.convert_tokens_to_ids('valueOf')).toBe(null)
  })

  it('cannot make a text grow without end', async () => {
    const double = { type: 'Replace', pattern: { String: 'a' }, content: 'aa' }
    const normalizer = { type: 'Sequence', normalizers: new Array(60).fill(double) }
    const tokenizer = await load({ ...base, normalizer, pre_tokenizer: null })
    expect(() => tokenizer.encode('a'.repeat(1000))).toThrow(InputError)
  })

  it('is refused beyond 64 MiB, before it is parsed', () => {
    expect(() => parse_json(new Uint8Array(64 * 1024 * 1024 + 1), 'tokenizer.json')).toThrow('has 67108865 bytes')
  })

  it('cannot make the charsmap read beyond its end', async () => {
    // Tries of random units lead anywhere.
    let state = 1
    const byte = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return state >>> 24
    }
    for (let round = 0; round < 50; ++round) {
      const units = Array.from({ length: 4 * (1 + (round % 40)) }, byte)
      const blob = [units.length, 0, 0, 0, ...units, 0x61, 0, 0x62]
      const charsmap = btoa(String.fromCharCode(...blob))
      const tokenizer = await load({ ...base, normalizer: { type: 'Precompiled', precompiled_charsmap: charsmap } })
      expect(tokenizer.encode('Hello é \ufb01 日本 \u0000 \u{1f600}').length).toBeGreaterThan(0)
    }
  })
})

describe('regular expressions', () => {
  const split = (Regex: string) =>
    load({ ...base, pre_tokenizer: { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false } })

  it.each([
    '(a+)+$',
    '(a|a)*b',
    '(?:a*)*',
    '([a-z]+)*x',
    '((a)|b)+',
    '(a{1,})*',
    '(.*)\\1',
    '(a{2,50}){3,}',
    '(?:(?:ab?c*)d)+',
    '(a{0,9}){0,9}b',
    `${'a?'.repeat(40)}b`,
    `${'a*'.repeat(8)}b`,
    'a{2}{3}',
    'a**',
    '(?i:a)',
    'a++',
    '(?>a)',
    '[[:alpha:]]',
    '[a&&b]',
    '\\bword',
    '(?R)',
  ])('%s could take exponential time or mean something else, and is refused', async (source) => {
    const error = await failure(split(source))
    expect(error.code).toBe('TOKENIZER_INVALID')
    expect(error.message).toContain('pre_tokenizer.pattern.Regex')
  })

  it.each(['(', '[a', '(?<n>a', '\\p{NoSuchProperty}', 'a'.repeat(5000)])(
    '%.20s cannot be read and is refused',
    async (source) => {
      expect((await failure(split(source))).code).toBe('TOKENIZER_INVALID')
    },
  )

  it('of real tokenizers are accepted', () => {
    for (const source of [
      '[A-Z]+[0-9]?|[^A-Z]',
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
      "(?:'[sS]|'[tT])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      ' {2,}',
      '[)|(*+]+',
      '\\(+',
    ]) {
      expect(translate_regex(source)?.degree, source).toBeLessThanOrEqual(2)
    }
  })

  it('get no more text than they can take in time', async () => {
    const tokenizer = await split('\\s*[\\r\\n]+|\\s+')
    expect(() => tokenizer.encode('a'.repeat(200_000))).toThrow('too long for this')
    const start = performance.now()
    tokenizer.encode(' '.repeat(20_000))
    expect(performance.now() - start).toBeLessThan(5_000)
  })
})

describe('the files beside it', () => {
  it.each<[string, unknown, string]>([
    ['no JSON', 'eos_token: </s>', 'not valid JSON'],
    ['a list', [], 'expected an object'],
    ['a length that is none', { model_max_length: -5 }, 'model_max_length is -5'],
    ['a side that is none', { padding_side: 'up' }, 'padding_side is "up"'],
    ['a flag that is none', { clean_up_tokenization_spaces: 'no' }, 'clean_up_tokenization_spaces is "no"'],
    ['a token that is none', { eos_token: 5 }, 'eos_token is 5'],
    ['a token without content', { eos_token: { lstrip: false } }, 'eos_token.content is missing'],
    ['added tokens under no id', { added_tokens_decoder: { x: { content: 'a' } } }, 'added_tokens_decoder.x'],
    ['an endless number of sentinels', { tokenizer_class: 'T5Tokenizer', extra_ids: 1e9 }, 'extra_ids is 1000000000'],
    ['a class that is none', { tokenizer_class: 5 }, 'tokenizer_class is 5'],
  ])('%s in tokenizer_config.json', async (_, config, message) => {
    const error = await failure(load(base, config))
    expect(error.code).toBe('TOKENIZER_INVALID')
    expect(error.message).toContain('tokenizer_config.json')
    expect(error.message).toContain(message)
  })

  it('neither tokenizer.json nor spiece.model', async () => {
    expect(await failure(AutoTokenizer.from_files(async () => null))).toBeInstanceOf(FileError)
    const error = await failure(AutoTokenizer.from_pretrained(fixture('routing')))
    expect(error.message).toContain('tokenizer.json')
  })
})

describe('spiece.model', () => {
  const from = async (bytes: Uint8Array) =>
    AutoTokenizer.from_files(await reader(folder, { 'tokenizer.json': null, 'spiece.model': bytes }))

  it('cut anywhere is refused, or still a model', async () => {
    for (let length = 0; length < spiece.length; length += 4_999) {
      const error = await from(spiece.subarray(0, length)).then(
        () => null,
        (error: unknown) => error,
      )
      if (error === null) continue
      expect(error).toBeInstanceOf(TokenizerError)
      expect((error as Error).message).toContain('spiece.model')
    }
  })

  it('with any byte changed is refused, or still a model', async () => {
    let state = 7
    for (let round = 0; round < 60; ++round) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      const bytes = spiece.slice()
      bytes[round < 30 ? state % 2_000 : state % bytes.length] = state >>> 24
      const error = await from(bytes).then(
        (tokenizer) => void tokenizer.encode('Hello é'),
        (error: unknown) => error,
      )
      if (error !== undefined) expect(error).toBeInstanceOf(SwitchTransformersError)
    }
  })

  it.each<[string, number[], string]>([
    ['nothing', [], 'it has no pieces'],
    ['a length beyond the end', [0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f], 'only 0 are left'],
    ['a length of 2^63', [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], 'only 0 are left'],
    ['a number without end', [0x0a, ...new Array(20).fill(0xff)], 'more than ten bytes'],
    ['field number 0', [0x02, 0x00], 'number 0'],
    ['a wire type that is none', [0x0b, 0x00], 'wire type 3'],
    ['a piece that is no UTF-8', [0x0a, 0x03, 0x0a, 0x01, 0xff], 'not UTF-8'],
    ['a BPE model', [0x0a, 0x03, 0x0a, 0x01, 0x61, 0x12, 0x02, 0x18, 0x02], 'model type is 2'],
  ])('%s', async (_, bytes, message) => {
    const error = await failure(from(Uint8Array.from(bytes)))
    expect(error.code).toBe('TOKENIZER_INVALID')
    expect(error.message).toContain('spiece.model')
    expect(error.message).toContain(message)
  })

  it('with scores that are no numbers is refused', async () => {
    const nan = [0x0a, 0x08, 0x0a, 0x01, 0x61, 0x15, 0x00, 0x00, 0xc0, 0x7f]
    expect((await failure(from(Uint8Array.from(nan)))).message).toContain('piece 0 has the score NaN')
  })
})

/** Ids, tokens and texts equal the reference's. */

import { beforeAll, describe, expect, it } from 'vitest'
import { InputError, OptionError } from '../../ts/errors.js'
import { Tensor } from '../../ts/tensor.js'
import { AutoTokenizer, PreTrainedTokenizer, StreamDecoder, T5Tokenizer } from '../../ts/tokenizer/index.js'
import { fixture, g2p, read_json } from './library.js'
import { read_bytes, reader } from './tokenizer_files.js'

interface Encoding {
  text: string
  input_ids: number[]
  tokens?: string[]
  decoded: string
  decoded_skip_special?: string
}

const folder = fixture('tokenizer')

/** Everything that a recorded encoding says, in one comparison per text. */
function expect_encoding(tokenizer: PreTrainedTokenizer, expected: Encoding): void {
  const { text, input_ids } = expected
  expect({
    text,
    input_ids: tokenizer(text, { return_tensor: false }).input_ids,
    tokens: expected.tokens && tokenizer.tokenize(text),
    decoded: tokenizer.decode(input_ids),
    decoded_skip_special:
      expected.decoded_skip_special === undefined
        ? undefined
        : tokenizer.decode(input_ids, { skip_special_tokens: true }),
  }).toEqual({ tokens: undefined, decoded_skip_special: undefined, ...expected })
  for (const skip_special_tokens of [false, true]) {
    for (const clean_up_tokenization_spaces of [false, true]) {
      const options = { skip_special_tokens, clean_up_tokenization_spaces }
      const decoder = new StreamDecoder(tokenizer, options)
      const streamed = input_ids.map((id) => decoder.push(id)).join('') + decoder.end()
      expect(streamed).toBe(tokenizer.decode(input_ids, options))
    }
  }
}

/** `toMatchObject` for an object that is a function. */
function expect_properties(
  tokenizer: PreTrainedTokenizer,
  expected: Partial<Record<keyof PreTrainedTokenizer, unknown>>,
): void {
  const names = Object.keys(expected) as (keyof PreTrainedTokenizer)[]
  expect(Object.fromEntries(names.map((name) => [name, tokenizer[name]]))).toEqual(expected)
}

describe.each(['tokenizer.json', 'spiece.model'])('T5, from %s', (file) => {
  let tokenizer: PreTrainedTokenizer
  beforeAll(async () => {
    const other = file === 'spiece.model' ? 'tokenizer.json' : 'spiece.model'
    tokenizer = await AutoTokenizer.from_files(await reader(folder, { [other]: null }))
  })

  it('is a T5Tokenizer with its special tokens', () => {
    expect(tokenizer).toBeInstanceOf(T5Tokenizer)
    expect(tokenizer).toBeInstanceOf(PreTrainedTokenizer)
    expect(tokenizer).toBeTypeOf('function')
    expect_properties(tokenizer, {
      pad_token: '<pad>',
      pad_token_id: 0,
      eos_token_id: 1,
      unk_token_id: 2,
      bos_token_id: null,
      model_max_length: 512,
      vocab_size: 2100,
      len: 2100,
      padding_side: 'right',
      clean_up_tokenization_spaces: false,
    })
    expect(tokenizer.all_special_ids.slice(0, 5)).toEqual([1, 2, 0, 2099, 2098])
    expect(tokenizer.all_special_ids).toHaveLength(103)
    expect(tokenizer.special_tokens_map).toEqual({ eos_token: '</s>', unk_token: '<unk>', pad_token: '<pad>' })
    expect(tokenizer.get_vocab().get('<extra_id_99>')).toBe(2000)
    expect(tokenizer.get_vocab().size).toBe(2100)
  })

  it('gives the 43 recorded texts, the pairs and the batch', async () => {
    const expected = await read_json<{
      encodings: Encoding[]
      pairs: { text: string; text_pair: string; input_ids: number[] }[]
      batch: { texts: string[]; input_ids: number[][]; attention_mask: number[][] }
    }>(folder, 'expected.json')
    expect(expected.encodings).toHaveLength(43)
    for (const encoding of expected.encodings) expect_encoding(tokenizer, encoding)
    for (const { text, text_pair, input_ids } of expected.pairs) {
      expect(tokenizer(text, { text_pair, return_tensor: false }).input_ids).toEqual(input_ids)
    }
    const { texts, input_ids, attention_mask } = expected.batch
    const options = { padding: true, truncation: true, max_length: 8 }
    expect(tokenizer(texts, { ...options, return_tensor: false })).toEqual({ input_ids, attention_mask })
    expect(tokenizer(texts, options).input_ids.tolist()).toEqual(input_ids.map((row) => row.map(BigInt)))
  })

  it('gives 640 texts from all over Unicode', async () => {
    const { encodings } = await read_json<{ encodings: Encoding[] }>(folder, 'unicode.json')
    expect(encodings).toHaveLength(640)
    for (const encoding of encodings) expect_encoding(tokenizer, encoding)
  })

  it('pads and truncates as the reference, and fails where it fails', async () => {
    const { cases } = await read_json<{ cases: { pair: number; kw: object; r: { error?: string } }[] }>(
      folder,
      'options.json',
    )
    const texts = ['hello many spaces in the house today', 'a b', 'x']
    const pairs = ['world', 'of the many houses that he saw', '']
    for (const { pair, kw, r } of cases) {
      const call = () =>
        tokenizer(texts, { ...kw, text_pair: pair ? pairs : null, return_token_type_ids: true, return_tensor: false })
      if (r.error === undefined) expect({ kw, pair, r: call() }).toEqual({ kw, pair, r })
      else expect(call, JSON.stringify(kw)).toThrow(/max_length|to fit|no text_pair/)
    }
  })
})

describe('other definitions and configs', () => {
  interface Variant {
    name: string
    spiece: boolean
    byte_fallback: boolean
    patch: Record<string, unknown>
    files: Record<string, object>
    encodings: Encoding[]
  }

  it('are followed as the reference follows them', async () => {
    const { variants } = await read_json<{ variants: Variant[] }>(folder, 'variants.json')
    expect(variants.length).toBeGreaterThan(15)
    for (const variant of variants) {
      const tokenizer = await AutoTokenizer.from_files(await variant_reader(variant))
      for (const encoding of variant.encodings) {
        try {
          expect_encoding(tokenizer, encoding)
        } catch (cause) {
          throw new Error(`variant ${variant.name}: ${(cause as Error).message}`, { cause })
        }
      }
    }
  })

  async function variant_reader({ spiece, byte_fallback, patch, files }: Variant) {
    const replaced: Record<string, object | null> = {
      'tokenizer_config.json': null,
      'tokenizer.json': null,
      'spiece.model': null,
      ...files,
    }
    if (spiece) return reader(folder, { ...replaced, 'spiece.model': await read_bytes(folder, 'spiece.model') })
    const base = await read_json<{ normalizer: object; model: { vocab: [string, number][] }; added_tokens: object[] }>(
      folder,
      'tokenizer.json',
    )
    const steps = (patch.normalizer as { normalizers?: { type: string }[] } | null)?.normalizers
    const normalizer = steps && {
      type: 'Sequence',
      normalizers: steps.map((step) => (step.type === 'Precompiled' ? base.normalizer : step)),
    }
    const bytes = Array.from({ length: 256 }, (_, byte) => [
      `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
      -9,
    ])
    return reader(folder, {
      ...replaced,
      'tokenizer.json': {
        ...base,
        ...patch,
        ...(normalizer && { normalizer }),
        model: {
          ...base.model,
          byte_fallback,
          vocab: byte_fallback ? [...base.model.vocab, ...bytes] : base.model.vocab,
        },
        added_tokens: [...base.added_tokens, ...((patch.added_tokens as object[]) ?? [])],
      },
    })
  }
})

describe("the embedded model's tokenizer", () => {
  it('gives words and pronunciations', async () => {
    const tokenizer = await AutoTokenizer.from_pretrained(g2p)
    expect(tokenizer).not.toBeInstanceOf(T5Tokenizer)
    expect_properties(tokenizer, { len: 101, model_max_length: 64, pad_token_id: 0, eos_token_id: 1 })
    const { encodings } = await read_json<{ encodings: Encoding[] }>(folder, 'g2p.json')
    expect(encodings.length).toBeGreaterThan(200)
    for (const encoding of encodings) expect_encoding(tokenizer, encoding)
  })
})

describe('the interface', () => {
  let tokenizer: PreTrainedTokenizer
  beforeAll(async () => {
    tokenizer = await AutoTokenizer.from_pretrained(folder)
  })

  it('returns int64 tensors unless asked not to', () => {
    const { input_ids, attention_mask, ...rest } = tokenizer('a b')
    expect(rest).toEqual({})
    expect(input_ids).toBeInstanceOf(Tensor)
    expect(input_ids).toMatchObject({ type: 'int64', dims: [1, 3] })
    expect(attention_mask.tolist()).toEqual([[1n, 1n, 1n]])
    expect(tokenizer('a b', { return_tensor: false })).toEqual({ input_ids: [9, 277, 1], attention_mask: [1, 1, 1] })
    expect(tokenizer(['a b'], { return_tensor: false }).input_ids).toEqual([[9, 277, 1]])
    expect(tokenizer('', { add_special_tokens: false }).input_ids.dims).toEqual([1, 0])
  })

  it('leaves out or adds what is asked for', () => {
    expect(tokenizer.encode('a b')).toEqual([9, 277, 1])
    expect(tokenizer.encode('a', { text_pair: 'b' })).toEqual([9, 1, 277, 1])
    expect(tokenizer.encode('a b', { add_special_tokens: false })).toEqual([9, 277])
    expect(tokenizer('a', { return_attention_mask: false, return_token_type_ids: true, return_tensor: false })).toEqual(
      {
        input_ids: [9, 1],
        token_type_ids: [0, 0],
      },
    )
    // An empty pair is none for one text, and an empty sequence in a batch.
    expect(tokenizer.encode('a', { text_pair: '' })).toEqual([9, 1])
    expect(tokenizer(['a'], { text_pair: [''], return_tensor: false }).input_ids).toEqual([[9, 1, 1]])
    expect(tokenizer.tokenize('a <extra_id_0>')).toEqual(['▁a', '<extra_id_0>'])
    expect(tokenizer.tokenize('a', { text_pair: 'b', add_special_tokens: true })).toEqual(['▁a', '</s>', '▁b', '</s>'])
    expect(tokenizer.num_special_tokens_to_add()).toBe(1)
    expect(tokenizer.num_special_tokens_to_add(true)).toBe(2)
  })

  it('decodes every form of ids', () => {
    const ids = [461, 21, 268, 28, 1]
    for (const form of [
      ids,
      ids.map(BigInt),
      Int32Array.from(ids),
      new Tensor('int64', ids),
      { data: ids, dims: [5] },
    ]) {
      expect(tokenizer.decode(form, { skip_special_tokens: true })).toBe('Hello')
    }
    const rows = new Tensor('int64', [...ids, ...ids], [2, 5])
    expect(tokenizer.batch_decode(rows)).toEqual(['Hello</s>', 'Hello</s>'])
    expect(tokenizer.batch_decode([ids, new Tensor('int64', [1])])).toEqual(['Hello</s>', '</s>'])
    expect(tokenizer.decode(rows[0] as Tensor)).toBe('Hello</s>')
    expect(tokenizer.decode([])).toBe('')
    // Models have more rows in their embedding than their tokenizer has tokens.
    expect(tokenizer.decode([5000, 7, 2 ** 31 - 1])).toBe(',')
  })

  it('cleans up spaces only when asked', () => {
    const ids = tokenizer.encode("it is n't , I 'm . a ' b", { add_special_tokens: false })
    expect(tokenizer.decode(ids)).toBe("it is n't , I 'm . a ' b")
    expect(tokenizer.decode(ids, { clean_up_tokenization_spaces: true })).toBe("it isn't, I'm. a'b")
  })

  it('converts between tokens and ids', () => {
    expect(tokenizer.convert_tokens_to_ids('<extra_id_0>')).toBe(2099)
    expect(tokenizer.convert_tokens_to_ids(['▁a', 'no such token'])).toEqual([9, 2])
    expect(tokenizer.convert_ids_to_tokens(2099)).toBe('<extra_id_0>')
    expect(tokenizer.convert_ids_to_tokens([9, 1, 5000])).toEqual(['▁a', '</s>', null])
    expect(tokenizer.convert_ids_to_tokens([9, 1], { skip_special_tokens: true })).toEqual(['▁a'])
    expect(tokenizer.convert_tokens_to_string(['▁a', '▁b'])).toBe('a b')
  })

  it('refuses what is no text and what is no id', () => {
    const call = tokenizer as unknown as (...args: unknown[]) => unknown
    for (const text of [undefined, null, 5, {}, [5], ['a', null], [['a', 'b']], []]) {
      expect(() => call(text), JSON.stringify(text)).toThrow(InputError)
    }
    expect(() => call(['a', 7])).toThrow('text[1] is 7; expected a string')
    expect(() => call('a', { text_pair: ['b'] })).toThrow(InputError)
    expect(() => call(['a', 'b'], { text_pair: ['b'] })).toThrow('an array of 2 texts')
    expect(() => tokenizer(['a', 'a b'])).toThrow('different lengths (2 and 3 tokens)')
    for (const id of [-1, 0.5, Number.NaN, 2 ** 31, -(2n ** 70n)]) {
      expect(() => tokenizer.decode([id] as number[]), String(id)).toThrow(InputError)
    }
    expect(() => tokenizer.decode([[1]] as never)).toThrow('use batch_decode')
    expect(() => tokenizer.decode('1' as never)).toThrow(InputError)
    expect(() => tokenizer.batch_decode(5 as never)).toThrow(InputError)
    expect(() => tokenizer.batch_decode(new Tensor('int64', [1]))).toThrow(InputError)
  })

  it('refuses options that it would have to ignore, and lengths that make no sense', () => {
    const code = (options: object) => {
      try {
        tokenizer('a b c', options)
      } catch (error) {
        return error instanceof OptionError ? error.code : error
      }
      return null
    }
    expect(code({ stride: 2 })).toBe('UNSUPPORTED_OPTION')
    expect(code({ return_tensors: 'pt' })).toBe('UNSUPPORTED_OPTION')
    for (const options of [
      { max_length: -1 },
      { max_length: 1.5 },
      { max_length: '8' },
      { truncation: 'sometimes' },
      { padding: 'max' },
      { padding_side: 'top' },
      { truncation: true, max_length: 0 },
      { padding: 'max_length', max_length: 2 ** 40 },
      { padding: true, pad_to_multiple_of: 0 },
    ]) {
      expect(code(options), JSON.stringify(options)).toBe('INVALID_OPTION')
    }
  })

  it('pads and truncates on the side that is set', async () => {
    const other = await AutoTokenizer.from_pretrained(folder)
    other.padding_side = 'left'
    other.truncation_side = 'left'
    const options = { padding: true, truncation: true, max_length: 3, return_tensor: false } as const
    expect(other(['a b', 'a', 'a b a b'], options)).toEqual({
      input_ids: [
        [9, 277, 1],
        [0, 9, 1],
        [9, 277, 1],
      ],
      attention_mask: [
        [1, 1, 1],
        [0, 1, 1],
        [1, 1, 1],
      ],
    })
  })

  it('replaces halves of surrogate pairs, which no text has', () => {
    expect(tokenizer.encode('a\ud800b')).toEqual(tokenizer.encode('a\ufffdb'))
  })

  it('can be constructed from parsed files, as in transformers.js', async () => {
    const [json, config] = [
      await read_json<object>(folder, 'tokenizer.json'),
      await read_json<object>(folder, 'tokenizer_config.json'),
    ]
    for (const type of [PreTrainedTokenizer, T5Tokenizer]) {
      expect(new type(json, config).encode('Hello <extra_id_0>')).toEqual(tokenizer.encode('Hello <extra_id_0>'))
    }
    expect((await T5Tokenizer.from_pretrained(folder)).encode('a b')).toEqual([9, 277, 1])
  })

  // From an address, asking for what is not there leaves an error in a page's console.
  it('asks for the older small files only where the reference reads them', async () => {
    const asked = async (replaced: Record<string, object | null>) => {
      const read = await reader(folder, replaced)
      const files: string[] = []
      await AutoTokenizer.from_files((file) => {
        files.push(file)
        return read(file)
      })
      return files.filter((file) => /special_tokens_map|added_tokens/.test(file))
    }
    const config = await read_json<{ added_tokens_decoder?: object }>(folder, 'tokenizer_config.json')
    const decoder = { 0: { content: '<pad>', special: true } }
    expect(await asked({ 'tokenizer_config.json': { ...config, added_tokens_decoder: decoder } })).toEqual([])
    const older = { ...config, added_tokens_decoder: undefined }
    for (const tokenizer_config of [older, null]) {
      expect(await asked({ 'tokenizer_config.json': tokenizer_config })).toEqual([
        'special_tokens_map.json',
        'added_tokens.json',
      ])
    }
  })

  it('takes time in proportion to the text', () => {
    const time = (text: string) => {
      const start = performance.now()
      tokenizer.decode(tokenizer.encode(text))
      return performance.now() - start
    }
    // A quadratic step would take minutes for any of these.
    for (const part of ['a', ' ', 'a\u0301', '<', '<extra_id_0>', '👩\u200d', '\u1100', '\u0915\u094d', '\u0600']) {
      expect(time(part.repeat(300_000 / part.length)), JSON.stringify(part)).toBeLessThan(5_000)
    }
  })
})

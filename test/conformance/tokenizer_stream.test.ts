/** Whatever order ids come in, the streamed pieces are the decoded text. */

import { describe, expect, it } from 'vitest'
import { InputError } from '../../ts/errors.js'
import { CleanUp, clean_up_tokenization } from '../../ts/tokenizer/clean_up.js'
import { AutoTokenizer, type PreTrainedTokenizer, StreamDecoder } from '../../ts/tokenizer/index.js'
import { fixture, g2p, read_json } from './library.js'
import { reader } from './tokenizer_files.js'

const folder = fixture('tokenizer')

/** A small repeatable source of random integers below `n`. */
function random(seed: number): (n: number) => number {
  let state = seed
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * n)
  }
}

function stream(tokenizer: PreTrainedTokenizer, ids: number[], options = {}): string[] {
  const decoder = new StreamDecoder(tokenizer, options)
  return [...ids.map((id) => decoder.push(id)), decoder.end()]
}

/** The same vocabulary with a byte for each unknown character, decoded as Llama's tokenizers are. */
async function byte_tokenizer(): Promise<PreTrainedTokenizer> {
  const base = await read_json<{ model: { vocab: [string, number][] } }>(folder, 'tokenizer.json')
  const bytes = Array.from({ length: 256 }, (_, byte) => [
    `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
    -9,
  ])
  const decoders = [
    { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
    { type: 'Strip', content: ' ', start: 1, stop: 0 },
  ]
  return AutoTokenizer.from_files(
    await reader(folder, {
      'tokenizer.json': {
        ...base,
        model: { ...base.model, byte_fallback: true, vocab: [...base.model.vocab, ...bytes] },
        decoder: { type: 'Sequence', decoders },
      },
      'tokenizer_config.json': { eos_token: '</s>', pad_token: '<pad>', unk_token: '<unk>' },
    }),
  )
}

describe('StreamDecoder', () => {
  it.each([
    ["T5's tokenizer", () => AutoTokenizer.from_pretrained(folder)],
    ["the embedded model's", () => AutoTokenizer.from_pretrained(g2p)],
    ['one with byte fallback', byte_tokenizer],
  ])('gives the decoded text of random ids, with %s', async (_, make) => {
    const tokenizer = await make()
    const next = random(3)
    // Bytes, sentinels, bare spaces and ids without a token are as likely as words.
    const few = [0, 1, 2, 6, 7, 2099, 2050, 5000, tokenizer.convert_tokens_to_ids('▁') ?? 3]
    for (let round = 0; round < 400; ++round) {
      const ids = Array.from({ length: 1 + next(30) }, () => {
        const kind = next(3)
        return kind === 0
          ? few[next(few.length)]!
          : kind === 1
            ? tokenizer.len - 1 - next(256 % tokenizer.len)
            : next(tokenizer.len)
      })
      for (const skip_special_tokens of [false, true]) {
        for (const clean_up_tokenization_spaces of [false, true]) {
          const options = { skip_special_tokens, clean_up_tokenization_spaces }
          expect(stream(tokenizer, ids, options).join(''), JSON.stringify({ ids, options })).toBe(
            tokenizer.decode(ids, options),
          )
        }
      }
    }
  })

  it('gives each word with its token, and spaces with the word after them', async () => {
    const tokenizer = await AutoTokenizer.from_pretrained(folder)
    const ids = tokenizer.encode('the <extra_id_0> of the')
    expect(stream(tokenizer, ids)).toEqual(['the', '<extra_id_0>', ' of', ' the', '</s>', ''])
    expect(stream(tokenizer, ids, { skip_special_tokens: true })).toEqual(['the', '', ' of', ' the', '', ''])
  })

  it('never gives half a character', async () => {
    const tokenizer = await byte_tokenizer()
    const ids = tokenizer.encode('the 日本 👩‍👩‍👧 the', { add_special_tokens: false })
    const pieces = stream(tokenizer, ids)
    expect(pieces.join('')).toBe('the 日本 👩‍👩‍👧 the'.normalize())
    expect(pieces.some((piece) => piece.includes('\ufffd'))).toBe(false)
    const cut = ids.slice(0, ids.length - 2)
    expect(stream(tokenizer, cut).join('')).toBe(tokenizer.decode(cut))
  })

  it('can be used again after end, and takes bigints', async () => {
    const tokenizer = await AutoTokenizer.from_pretrained(folder)
    const decoder = new StreamDecoder(tokenizer)
    for (let round = 0; round < 2; ++round) {
      expect(decoder.push(9n) + decoder.push(277) + decoder.end()).toBe('a b')
      expect(decoder.end()).toBe('')
    }
    expect(() => decoder.push(-1)).toThrow(InputError)
  })

  it('looks at few tokens at a time', async () => {
    const tokenizer = await AutoTokenizer.from_pretrained(folder)
    const ids = Array.from({ length: 50_000 }, (_, index) => 3 + (index % 1900))
    const start = performance.now()
    expect(stream(tokenizer, ids).join('')).toBe(tokenizer.decode(ids))
    // Decoding everything at each step would take minutes.
    expect(performance.now() - start).toBeLessThan(5_000)
  })
})

describe('CleanUp', () => {
  it('gives what cleaning up the whole text gives', () => {
    const next = random(11)
    const parts = [' ', ' ', "'", 'n', 't', '.', '?', ' ,', 's', ' re', 've', 'm', 'a', 'word', " n't", " ' "]
    for (let round = 0; round < 20_000; ++round) {
      const pieces = Array.from({ length: 1 + next(14) }, () => parts[next(parts.length)]!)
      const clean_up = new CleanUp()
      const streamed = pieces.map((piece) => clean_up.push(piece)).join('') + clean_up.end()
      expect(streamed, JSON.stringify(pieces)).toBe(clean_up_tokenization(pieces.join('')))
    }
  })
})

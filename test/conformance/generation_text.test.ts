/** Text in, text out on the embedded model: generation, streams, pipelines. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  AutoTokenizer,
  backend,
  failure_of,
  g2p,
  type PreTrainedTokenizer,
  pipeline,
  SwitchTransformersForConditionalGeneration,
  TextStreamer,
} from './library.js'

let model: SwitchTransformersForConditionalGeneration
let tokenizer: PreTrainedTokenizer

beforeAll(async () => {
  model = await SwitchTransformersForConditionalGeneration.from_pretrained(g2p, { backend })
  tokenizer = await AutoTokenizer.from_pretrained(g2p)
})
afterAll(() => model?.dispose())

const PRONOUNCED: [word: string, phonemes: string][] = [['hello', 'HH EH1 L OW0']]

test.each(PRONOUNCED)('%s is %s', async (word, phonemes) => {
  const ids = await model.generate({ ...tokenizer(word), max_new_tokens: 20 })
  expect(tokenizer.batch_decode(ids, { skip_special_tokens: true })).toEqual([phonemes])
})

describe('streams', () => {
  test('the texts of a row are its decoded sequence', async () => {
    const words = ['hello', 'pronunciation', 'ox']
    const inputs = tokenizer(words, { padding: true })
    const texts = words.map(() => '')
    for await (const { row, text } of model.stream({ ...inputs }, { tokenizer, max_new_tokens: 40 })) texts[row] += text
    const ids = await model.generate({ ...inputs, max_new_tokens: 40 })
    expect(texts).toEqual(tokenizer.batch_decode(ids, { skip_special_tokens: true }))
  })

  test('TextStreamer', async () => {
    const pieces: string[] = []
    const tokens: bigint[] = []
    const streamer = new TextStreamer(tokenizer, {
      skip_prompt: true,
      callback_function: (text) => pieces.push(text),
      token_callback_function: (ids) => tokens.push(...ids),
    })
    await model.generate({ ...tokenizer('hello'), max_new_tokens: 20, streamer })
    expect(pieces.join('')).toBe('HH EH1 L OW0')
    expect(pieces.length).toBeGreaterThan(1)
    expect(tokens.length).toBeGreaterThan(4)
  })

  test('TextStreamer follows one row, and no beams', async () => {
    const streamer = new TextStreamer(tokenizer, { callback_function: () => {} })
    const two = tokenizer(['hello', 'there'], { padding: true })
    expect(await failure_of(() => model.generate({ ...two, streamer }))).toMatchObject({ code: 'INVALID_INPUT' })
    const beams = await failure_of(() => model.generate({ ...tokenizer('hello'), streamer, num_beams: 2 }))
    expect(beams).toMatchObject({ code: 'INVALID_OPTION' })
  })

  test('the text of a row that a criterion ends is whole, while others go on', async () => {
    const inputs = tokenizer(['hello', 'pronunciation'], { padding: true })
    // Of such a tokenizer only `decode` is known; here the last word is never certain.
    const unsure = {
      all_special_ids: tokenizer.all_special_ids,
      decode: (ids: number[]) => `${tokenizer.decode(ids, { skip_special_tokens: true })}\ufffd`,
    }
    const stopping_criteria = (rows: number[][]) => rows.map((row) => row.length > 4 && row[1] === first)
    const first = Number((await model.generate({ ...inputs, max_new_tokens: 1 })).tolist()[0][1])
    const texts = ['', '']
    const options = { tokenizer: unsure, stopping_criteria, max_new_tokens: 20 }
    for await (const { row, text } of model.stream({ ...inputs }, options)) texts[row] += text
    const ids = await model.generate({ ...inputs, stopping_criteria, max_new_tokens: 20 })
    expect(texts).toEqual(tokenizer.batch_decode(ids, { skip_special_tokens: true }).map((text) => `${text}\ufffd`))
  })

  test('stop_strings end a row', async () => {
    const ids = await model.generate({ ...tokenizer('hello'), max_new_tokens: 20, stop_strings: 'EH1', tokenizer })
    expect(tokenizer.batch_decode(ids, { skip_special_tokens: true })).toEqual(['HH EH1'])
    const prefix = (ids.tolist() as bigint[][]).map((row) => row.slice(0, 3))
    const on = await model.generate({
      ...tokenizer('hello'),
      decoder_input_ids: prefix,
      stop_strings: ['EH1', 'L'],
      tokenizer,
    })
    expect(tokenizer.batch_decode(on, { skip_special_tokens: true })).toEqual(['HH EH1 L'])
  })
})

describe('pipelines', () => {
  test('one text, and several', async () => {
    const speak = await pipeline('text2text-generation', model, { tokenizer })
    expect(await speak('hello')).toEqual([{ generated_text: 'HH EH1 L OW0' }])
    const several = await speak(['hello', 'hello'], { batch_size: 1 })
    expect(several).toEqual([{ generated_text: 'HH EH1 L OW0' }, { generated_text: 'HH EH1 L OW0' }])
    const candidates = await speak('hello', { num_beams: 3, num_return_sequences: 3 })
    expect(candidates).toHaveLength(3)
    expect(candidates[0]).toEqual({ generated_text: 'HH EH1 L OW0' })
  })

  test('results are named after the task', async () => {
    const summarize = await pipeline('summarization', model, { tokenizer })
    expect(await summarize('hello')).toEqual([{ summary_text: 'HH EH1 L OW0' }])
    const translate = await pipeline('translation', model, { tokenizer })
    expect(await translate('hello')).toEqual([{ translation_text: 'HH EH1 L OW0' }])
  })

  test('task_specific_params give the prefix and the options of a task', async () => {
    const { config } = model
    try {
      config.task_specific_params = {
        summarization: { prefix: 'hel', max_new_tokens: 2 },
        translation_en_to_ipa: { prefix: 'hel', num_beams: 2 },
      }
      const summarize = await pipeline('summarization', model, { tokenizer })
      const [short] = (await summarize('lo')) as { summary_text: string }[]
      expect('HH EH1 L OW0'.startsWith(short?.summary_text ?? '?')).toBe(true)
      expect(short?.summary_text.length).toBeLessThan(12)
      expect(await summarize('lo', { max_new_tokens: 20 })).toEqual([{ summary_text: 'HH EH1 L OW0' }])
      const translate = await pipeline('translation_en_to_ipa', model, { tokenizer })
      expect(await translate('lo')).toEqual([{ translation_text: 'HH EH1 L OW0' }])
      const named = await pipeline('translation', model, { tokenizer })
      expect(await named('lo', { src_lang: 'en', tgt_lang: 'ipa' })).toEqual([{ translation_text: 'HH EH1 L OW0' }])
      const error = await failure_of(() => named('lo', { src_lang: 'en', tgt_lang: 'fr' }))
      expect(error.message).toContain('translation_en_to_fr')
    } finally {
      delete config.task_specific_params
    }
  })

  test('bad input and options', async () => {
    const speak = await pipeline('text2text-generation', model, { tokenizer })
    for (const texts of [7, [], [1], null]) {
      expect(await failure_of(() => speak(texts as never))).toMatchObject({ code: 'INVALID_INPUT' })
    }
    expect(await failure_of(() => speak('x', { batch_size: 0 }))).toMatchObject({ code: 'INVALID_OPTION' })
    expect(await failure_of(() => speak('x', { colour: 1 } as never))).toMatchObject({ code: 'UNSUPPORTED_OPTION' })
    expect(await failure_of(() => pipeline('fill-mask' as never, model))).toMatchObject({ code: 'UNSUPPORTED_OPTION' })
    expect(await failure_of(() => pipeline('summarization', model))).toMatchObject({ code: 'INVALID_OPTION' })
    expect(await failure_of(() => speak.fill_spans('a ___ b'))).toMatchObject({ code: 'INVALID_INPUT' })
  })

  test('feature-extraction: the mean leaves padding out, and vectors have length 1', async () => {
    await using embed = await pipeline('feature-extraction', g2p, { backend })
    const together = await embed(['ox', 'pronunciation'], { pooling: 'mean', normalize: true })
    const alone = await embed('ox', { pooling: 'mean', normalize: true })
    expect(together.dims).toEqual([2, 128])
    for (let i = 0; i < 128; i++) expect(together.data[i]).toBeCloseTo(alone.data[i] as number, 5)
    const length = Math.sqrt(alone.data.reduce((sum, value) => sum + value * value, 0))
    expect(length).toBeCloseTo(1, 5)
    expect((await embed('ox')).dims).toEqual([1, 3, 128])
  })
})

describe('scores', () => {
  test('a target scores what its tokens do, and the right one scores best', async () => {
    const inputs = tokenizer(['hello', 'hello'], { padding: true })
    const targets = ['HH EH1 L OW0', 'OW0 L EH1 HH'].map((text) => [
      ...tokenizer.encode(text, { add_special_tokens: false }),
      1,
    ])
    const ids = await model.generate({ ...tokenizer('hello'), max_new_tokens: 20 })
    const generated = (ids.tolist() as bigint[][])[0]?.slice(1).map(Number) as number[]
    const width = Math.max(generated.length, ...targets.map((row) => row.length))
    const pad = (row: number[]) => [...row, ...new Array<number>(width - row.length).fill(-100)]
    const { log_probs, token_log_probs, num_tokens } = await model.score({
      ...inputs,
      labels: [pad(generated), pad([...generated].reverse())],
    })
    expect(log_probs.dims).toEqual([2])
    expect(log_probs.data[0]).toBeGreaterThan(log_probs.data[1] as number)
    expect(log_probs.data[0]).toBeLessThanOrEqual(0)
    const sum = Array.from(token_log_probs.data.subarray(0, width)).reduce((total, value) => total + value, 0)
    expect(sum).toBeCloseTo(log_probs.data[0] as number, 4)
    expect(num_tokens.data[0]).toBe(generated.length)
    const { cross_entropy } = await model.forward({ ...tokenizer('hello'), labels: [generated] })
    expect(Number(cross_entropy?.item())).toBeCloseTo(-(log_probs.data[0] as number) / generated.length, 4)
  })
})

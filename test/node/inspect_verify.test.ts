import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { all_passed, type Check } from '../../ts/inspect/verify/report.js'
import { compare_generation, is_plain_greedy, parse_generations } from '../../ts/inspect/verify/sequences.js'
import { find_targets } from '../../ts/inspect/verify/targets.js'
import { by_name, compare_routes, compare_tensors, output_name, outputs_for } from '../../ts/inspect/verify/tensors.js'
import { verify_tokenizer } from '../../ts/inspect/verify/tokenizer.js'
import { flatten } from '../../ts/inspect/verify/values.js'
import { first_broken } from '../../ts/inspect/verify/weights.js'

const values = (dims: number[], data: number[]) => ({ dims, data })

describe('tensors', () => {
  test('expected names are those of the reference, outputs those of the forward pass', () => {
    expect(output_name('encoder.router_logits.0')).toBe('encoder_router_logits.0')
    expect(output_name('encoder.last_hidden_state')).toBe('encoder_last_hidden_state')
    expect(output_name('decoder.attentions.11')).toBe('decoder_attentions.11')
    expect(output_name('cross_attentions.3')).toBe('cross_attentions.3')
    expect(output_name('decoder_z_loss')).toBe('decoder_z_loss')
    expect(outputs_for(['logits', 'encoder.router_logits.0', 'encoder.router_logits.1'])).toEqual([
      'encoder_router_logits',
      'encoder_routes',
      'logits',
    ])
  })

  test('an error above the tolerance, another shape and a missing tensor fail, in order of their layers', () => {
    const expected = new Map([
      ['encoder.hidden_states.10', values([2], [1, 1])],
      ['encoder.hidden_states.9', values([2], [1, 1])],
      ['logits', values([1, 2], [1, 1])],
      ['loss', values([1], [2])],
    ])
    const actual = new Map([
      ['encoder_hidden_states.9', values([2], [1, 1.1])],
      ['logits', values([2, 1], [1, 1])],
      ['loss', values([], [2])],
    ])
    const checks = compare_tensors(expected, actual, 1e-5)
    expect(checks.map(({ name, status }) => [name, status])).toEqual([
      ['encoder.hidden_states.9', 'failed'],
      ['encoder.hidden_states.10', 'failed'],
      ['logits', 'failed'],
      ['loss', 'passed'],
    ])
    expect(checks[0]?.error).toBeCloseTo(0.1 / Math.SQRT2, 6)
    expect(checks[1]?.detail).toContain('no such tensor')
    expect(checks[2]?.detail).toBe('its shape is [2, 1], expected [1, 2]')
    expect(
      compare_tensors(expected, new Map([['encoder_hidden_states.9', values([2], [1, Number.NaN])]]), 1)[0]?.detail,
    ).toBe('1 values are not finite, the first at [1]')
  })

  test('routing is compared exactly, with the place of the first difference', () => {
    const expected = new Map([['encoder.router_logits.0', values([1, 3, 2], [1, 0, 1, 0, 0, 1])]])
    const rule = { expert_capacity: 1 }
    const right = new Map([['encoder_routes.0', values([1, 3], [0, -1, 1])]])
    const wrong = new Map([['encoder_routes.0', values([1, 3], [0, 0, 1])]])
    expect(compare_routes(expected, right, rule)).toEqual([
      { kind: 'routing', name: 'encoder.routes.0', status: 'passed' },
    ])
    expect(compare_routes(expected, wrong, rule)[0]?.detail).toBe(
      '1 of 3 tokens differ, the first at row 0, position 1: expert 0, expected dropped',
    )
    expect(compare_routes(expected, new Map(), rule)[0]?.status).toBe('failed')
  })

  test('the block is named that values which are not finite come out of', () => {
    const outputs = new Map([
      ['encoder_hidden_states.0', values([1, 1, 2], [1, 2])],
      ['encoder_hidden_states.1', values([1, 1, 2], [1, 2])],
      ['encoder_hidden_states.2', values([1, 1, 2], [1, Number.NaN])],
    ])
    expect(first_broken(outputs)).toContain('come out of encoder.block.1 (1 of them, the first at [0, 0, 1])')
    outputs.set('encoder_hidden_states.0', values([1, 1, 2], [Number.NaN, 1]))
    expect(first_broken(outputs)).toContain("encoder's embeddings")
    expect(first_broken(new Map())).toBeUndefined()
  })

  test('names sort by the numbers in them', () => {
    expect(['a.10', 'a.9', 'b.0'].sort(by_name)).toEqual(['a.9', 'a.10', 'b.0'])
  })
})

describe('generations', () => {
  const greedy = { options: { max_new_tokens: 3 }, sequences: [[0, 5, 1, 0]] }

  test('plain greedy is nothing but a length', () => {
    expect(is_plain_greedy({ max_new_tokens: 3, do_sample: false, num_beams: 1 })).toBe(true)
    expect(is_plain_greedy({ max_new_tokens: 3, repetition_penalty: 1.2 })).toBe(false)
    expect(is_plain_greedy({ num_beams: 2 })).toBe(false)
  })

  test('greedy rows must be equal to the last padding token', () => {
    expect(compare_generation(greedy, { sequences: [[0, 5, 1, 0]] }, [1], 1e-5).status).toBe('passed')
    expect(compare_generation(greedy, { sequences: [[0, 5, 1, 1]] }, [1], 1e-5).status).toBe('failed')
    expect(compare_generation(greedy, { sequences: [[0, 5, 1]] }, [1], 1e-5).status).toBe('failed')
    expect(compare_generation(greedy, { sequences: [] }, [1], 1e-5).detail).toBe('0 rows, expected 1')
  })

  test('rows of beams are compared up to their first end token, which the start token never is', () => {
    const beams = { options: { num_beams: 2 }, sequences: [[1, 5, 1, 1]], sequences_scores: [-0.5] }
    expect(
      compare_generation(beams, { sequences: [[1, 5, 1, 0]], sequences_scores: [-0.50009] }, [1], 1e-5).status,
    ).toBe('passed')
    expect(
      compare_generation(beams, { sequences: [[1, 6, 1, 0]], sequences_scores: [-0.5] }, [1], 1e-5).detail,
    ).toContain('[1 6 1], expected [1 5 1]')
    expect(compare_generation(beams, { sequences: [[1, 5, 1]], sequences_scores: [-0.5002] }, [1], 1e-5).status).toBe(
      'failed',
    )
    expect(compare_generation(beams, { sequences: [[1, 5, 1]] }, [1], 1e-5).detail).toContain('no score')
    expect(
      compare_generation(beams, { sequences: [[1, 5, 1]], sequences_scores: [Number.NaN] }, [1], 1e-5).status,
    ).toBe('failed')
  })

  test.each([
    [{}],
    [[1]],
    [[{ options: {} }]],
    [[{ options: {}, sequences: [1] }]],
    [[{ options: {}, sequences: [[1]], sequences_scores: 'x' }]],
  ])('a file that is not of the form is refused: %j', (json) => {
    expect(() => parse_generations(json, 'generation.json')).toThrowError(/generation\.json/)
  })
})

test('a path passes only when something was compared and nothing is missing', () => {
  const check = (status: Check['status']): Check => ({ kind: 'generation', name: '', status })
  expect(all_passed([check('passed'), check('skipped')])).toBe(true)
  expect(all_passed([check('passed'), check('not_run')])).toBe(false)
  expect(all_passed([check('passed'), check('failed')])).toBe(false)
  expect(all_passed([check('skipped')])).toBe(false)
  expect(all_passed([])).toBe(false)
})

test('nested lists are flattened when they are a rectangle of numbers', () => {
  expect(
    flatten(
      [
        [1, null],
        [3, 4],
      ],
      2,
      'x',
    ),
  ).toEqual({ dims: [2, 2], data: [1, Number.NEGATIVE_INFINITY, 3, 4] })
  expect(() => flatten([[1], [2, 3]], 2, 'x')).toThrowError(/ragged/)
  expect(() => flatten([1], 2, 'x')).toThrowError(/nested 2 deep/)
  expect(() => flatten([['a']], 2, 'x')).toThrowError(/numbers/)
  expect(() => flatten(undefined, 2, 'x')).toThrowError(/undefined/)
})

test('tokenizations are compared in ids, text, pairs and batch', () => {
  const tokenizer = {
    encode: (text: string, options: { text_pair?: string } = {}) => ({
      input_ids: [text.length, ...(options.text_pair ? [9] : []), 1],
    }),
    encode_batch: (texts: string[]) => ({
      input_ids: texts.map((t) => [t.length, 1]),
      attention_mask: texts.map(() => [1, 1]),
    }),
    decode: (_ids: number[], { skip_special_tokens }: { skip_special_tokens: boolean }) =>
      skip_special_tokens ? 'ab' : 'ab</s>',
  }
  const json = {
    encodings: [
      { text: 'ab', input_ids: [2, 1], decoded: 'ab</s>', decoded_skip_special: 'ab' },
      { text: 'abc', input_ids: [4, 1] },
      { text: 'ab', input_ids: [2, 1], decoded: 'wrong' },
    ],
    pairs: [{ text: 'a', text_pair: 'b', input_ids: [1, 9, 1] }],
    batch: { texts: ['a'], padding: true, input_ids: [[1, 1]], attention_mask: [[1, 0]] },
  }
  const checks = verify_tokenizer(json, 'expected.json', tokenizer)
  expect(checks.map(({ status }) => status)).toEqual(['passed', 'failed', 'failed', 'passed', 'failed'])
  expect(checks[1]?.detail).toBe('input_ids: [3,1], expected [4,1]')
  expect(checks[2]?.detail).toBe('decoded: "ab</s>", expected "wrong"')
  expect(checks[4]?.detail).toContain('attention_mask')
})

describe('targets', () => {
  let root: string
  beforeAll(() => {
    root = mkdtempSync(path.join(tmpdir(), 'verify-targets-'))
    const write = (name: string, text: string) => {
      mkdirSync(path.dirname(path.join(root, name)), { recursive: true })
      writeFileSync(path.join(root, name), text)
    }
    write('cases/b/expected.safetensors', '')
    write('cases/a/expected.safetensors', '')
    write('cases/not-a-case/readme.txt', '')
    write('cases/routing.json', '{"cases": [{"logits": [], "expert": []}]}')
    write('cases/other.json', '{"value": 1}')
    write('tokenizer/expected.json', '{"encodings": []}')
    write('processors.json', '{"scores": [], "cases": []}')
    write('checkpoint/config.json', '{}')
    write('broken.json', '{')
    write('list.json', '[]')
    write('empty/.keep', '')
    write('weights.safetensors', '')
  })
  afterAll(() => rmSync(root, { recursive: true, force: true }))

  const forms = async (...names: string[]) =>
    (await find_targets(names.map((name) => path.join(root, name)))).map(({ form, path: found }) => [
      form,
      path.relative(root, found),
    ])

  test('cases, folders of cases and known files are told apart by what they hold', async () => {
    expect(await forms('cases/a', 'processors.json', 'tokenizer', 'tokenizer/expected.json')).toEqual([
      ['case', 'cases/a'],
      ['processors', 'processors.json'],
      ['tokenizer', 'tokenizer/expected.json'],
      ['tokenizer', 'tokenizer/expected.json'],
    ])
    expect(await forms('cases')).toEqual([
      ['case', 'cases/a'],
      ['case', 'cases/b'],
      ['routing', 'cases/routing.json'],
    ])
  })

  test.each([
    ['checkpoint', 'INVALID_INPUT', /expected\.safetensors is missing/],
    ['empty', 'INVALID_INPUT', /holds nothing to verify/],
    ['list.json', 'INVALID_INPUT', /no known form/],
    ['cases/other.json', 'INVALID_INPUT', /no known form/],
    ['broken.json', 'INVALID_CONFIG', /not valid JSON/],
    ['weights.safetensors', 'INVALID_INPUT', /name its folder/],
    ['nowhere', 'FILE_NOT_FOUND', /does not exist/],
    ['broken.json/x', 'FILE_NOT_FOUND', /does not exist/],
  ])('%s is refused: %s', async (name, code, message) => {
    const error = await find_targets([path.join(root, name)]).catch((error) => error)
    expect(error.code).toBe(code)
    expect(error.message).toMatch(message)
  })

  test('no path is a mistake', async () => {
    await expect(find_targets([])).rejects.toThrowError(/Nothing to verify/)
  })
})

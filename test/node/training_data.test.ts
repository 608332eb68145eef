/** Tables become examples with every bad row named; batches and corruption depend on the seed alone. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Example, type ReadOptions, read_examples } from '../../ts/entry/node.js'
import { plan_epoch } from '../../ts/training/data/batches.js'
import { collate } from '../../ts/training/data/collate.js'
import { FeatureTable } from '../../ts/training/data/features.js'
import { random, shuffle } from '../../ts/training/data/random.js'
import { corrupt_spans, random_spans_noise_mask, segment_length } from '../../ts/training/data/span_corruption.js'
import { prefetch } from '../../ts/training/data/turns.js'

async function read(text: string | (string | Uint8Array)[], options: ReadOptions): Promise<Example[]> {
  const examples: Example[] = []
  for await (const example of read_examples(typeof text === 'string' ? [text] : text, options)) examples.push(example)
  return examples
}

const pairs = (examples: Example[]) => examples.map(({ source, target }) => [source, target])

describe('tables', () => {
  test.each([
    ['TSV without a header', 'a\tb\nc\td\n', { format: 'tsv' }],
    ['with one', 'source\ttarget\na\tb\nc\td', { format: 'tsv' }],
    ['CSV in another order, with more columns', 'target,id,source\nb,1,a\nd,2,c\n', { format: 'csv' }],
    ['a byte order mark and CR LF', '\ufeffinput,output\r\na,b\r\nc,d\r\n', { format: 'csv' }],
    ['CR alone', 'a\tb\rc\td\r', { format: 'tsv' }],
    ['blank lines', '\n\na\tb\n\nc\td\n\n', { format: 'tsv' }],
    ['named columns', 'x,y\na,b\nc,d', { format: 'csv', source_column: 'x', target_column: 'y' }],
    [
      'a header that is said to be there',
      'from;to\na;b\nc;d',
      { format: 'csv', header: true, delimiter: ';', source_column: 'from', target_column: 'to' },
    ],
    ['JSON lines', '{"text":"a","summary":"b"}\n\n{"text":"c","summary":"d"}\n', { format: 'jsonl' }],
    [
      'inside objects',
      '{"translation":{"en":"a","de":"b"}}\n{"translation":{"en":"c","de":"d"}}',
      { format: 'jsonl', source_column: 'translation.en', target_column: 'translation.de' },
    ],
  ] as [string, string, ReadOptions][])('%s', async (_, text, options) => {
    expect(pairs(await read(text, options))).toEqual([
      ['a', 'b'],
      ['c', 'd'],
    ])
  })

  test('quotes around delimiters, quotes and line ends; none where quote is null', async () => {
    const text = '"a, ""b""","c\r\nd"\n5" disk,e\n'
    expect(pairs(await read(text, { format: 'csv' }))).toEqual([
      ['a, "b"', 'c\nd'],
      ['5" disk', 'e'],
    ])
    expect(pairs(await read('"a\tb"\n', { format: 'tsv', quote: null }))).toEqual([['"a', 'b"']])
  })

  test('the same in pieces of any size', async () => {
    const text = 'source,target\r\n"a\r\n""é""",😀\r\n"x,y",z\r\n'.repeat(1)
    const bytes = new TextEncoder().encode(text)
    const expected = await read(text, { format: 'csv' })
    for (const size of [1, 2, 3, 7]) {
      const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
        bytes.slice(i * size, (i + 1) * size),
      )
      expect(await read(pieces, { format: 'csv' })).toEqual(expected)
    }
  })

  test('a file far larger than the window', async () => {
    const rows = Array.from({ length: 20_000 }, (_, i) => `"source ${i}\n, with a line"\ttarget ${i}`)
    const examples = await read(
      rows.map((row) => `${row}\n`),
      { format: 'tsv' },
    )
    expect(examples.length).toBe(20_000)
    expect(examples.at(-1)?.target).toBe('target 19999')
  })

  test('references: lists of targets', async () => {
    const [example] = await read('{"source":"a","target":["b","c"]}', { format: 'jsonl' })
    expect(example).toEqual({ source: 'a', target: 'b', references: ['b', 'c'] })
  })

  test('texts alone', async () => {
    expect((await read('one\n\ntwo\r\n', { format: 'text' })).map(({ source }) => source)).toEqual(['one', 'two'])
  })
})

describe('bad rows', () => {
  const bad: [string, string, ReadOptions, RegExp][] = [
    [
      'too few fields',
      'a\tb\n"x\ny"\tz\nc\nd\te\n',
      { format: 'tsv' },
      /line 4: it has 1 fields, and there are 2 columns/,
    ],
    ['an empty field', 'a\tb\nc\t\n', { format: 'tsv' }, /line 2: .* is empty/],
    ['a quote that is never closed', 'a,b\n"c,d\ne,f\n', { format: 'csv' }, /line 2: a quoted field is never closed/],
    ['no JSON', '{"source":"a","target":"b"}\n{oops\n', { format: 'jsonl' }, /line 2: it is not JSON/],
    ['no object', '[1]\n', { format: 'jsonl' }, /line 1: it is \[1\], not an object/],
    ['no text', '{"source":"a","target":{}}\n', { format: 'jsonl' }, /line 1: "target" is \{\}, not a text/],
    ['no column', '{"source":"a","tarhet":"b"}\n', { format: 'jsonl' }, /line 1: no column is known as a target/],
  ]
  test.each(bad)('%s', async (_, text, options, message) => {
    await expect(read(text, { ...options, name: 'pairs' })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(message),
    })
  })

  test('are counted and left out by option', async () => {
    const reader = read_examples(['a\tb\nbad\nc\td\nworse\t\n'], { format: 'tsv', on_bad_row: 'skip' })
    const examples: Example[] = []
    for await (const example of reader) examples.push(example)
    expect(pairs(examples)).toEqual([
      ['a', 'b'],
      ['c', 'd'],
    ])
    expect(reader.skipped).toMatchObject({ count: 2, rows: [{ line: 2 }, { line: 4 }] })
  })

  test('data without a row, or without a usable one, are an error', async () => {
    await expect(read('', { format: 'tsv' })).rejects.toThrow(/holds no rows/)
    await expect(read('source\ttarget\n', { format: 'tsv' })).rejects.toThrow(/holds no rows/)
    await expect(
      read('a\tb\t\n', { format: 'tsv', header: false, on_bad_row: 'skip', source_column: '2', target_column: '1' }),
    ).rejects.toThrow(/no usable row; 1 were left out, the first in line 1/)
  })

  test('one column, missing columns, unknown formats and bytes that are no text', async () => {
    await expect(read('abc\n', { format: 'tsv' })).rejects.toThrow(/1 column in its first row/)
    await expect(read('a,b\n', { format: 'csv', target_column: 'x' })).rejects.toThrow(
      /no column "x" \(target_column\)/,
    )
    await expect(read('a', { name: 'data.xlsx' })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    await expect(read([Uint8Array.of(0xff, 0xfe, 0x41)], { format: 'tsv' })).rejects.toThrow(/not UTF-8/)
  })

  test('a row without an end is given up before it fills the memory', async () => {
    const line = `${'x'.repeat(2 ** 16)}\n`
    const text = ['a,"', ...Array.from({ length: 600 }, () => line)]
    await expect(read(text, { format: 'csv' })).rejects.toThrow(/line 1: a row of more than/)
  })
})

describe('files', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'data-'))
    writeFileSync(path.join(folder, 'pairs.tsv'), 'a\tb\n')
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test('are read by their path, again and again', async () => {
    const reader = read_examples(path.join(folder, 'pairs.tsv'))
    for (let round = 0; round < 2; round++) {
      const examples: Example[] = []
      for await (const example of reader) examples.push(example)
      expect(pairs(examples)).toEqual([['a', 'b']])
    }
  })

  test('that are not there, or are folders', async () => {
    const all = async (file: string) => {
      for await (const _ of read_examples(file, { format: 'tsv' })) void _
    }
    await expect(all(path.join(folder, 'none.tsv'))).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
    await expect(all(folder)).rejects.toMatchObject({ code: 'FILE_READ' })
  })
})

describe('batches', () => {
  const table = new FeatureTable()
  for (let i = 0; i < 1003; i++) {
    const length = 1 + (Math.abs(random(7, i).next()) % 40)
    table.push({ input_ids: new Int32Array(length).fill(i), labels: new Int32Array(length + 1).fill(i) })
  }
  const options = { batch_size: 8, seed: 3, strategy: 'random' as const }
  const flat = (batches: Int32Array[]) => batches.flatMap((batch) => [...batch])
  const everything = Array.from({ length: 1003 }, (_, i) => i)
  const padded = (batches: Int32Array[]) =>
    batches.reduce((sum, batch) => {
      const longest = (length: (index: number) => number) => Math.max(...Array.from(batch, length))
      return sum + batch.length * (longest((i) => table.source_length(i)) + longest((i) => table.target_length(i)))
    }, 0)

  test.each(['random', 'sequential', 'group_by_length'] as const)('%s holds every example once', (strategy) => {
    const batches = plan_epoch(table, 0, { ...options, strategy })
    expect(batches.length).toBe(126)
    expect(flat(batches).sort((a, b) => a - b)).toEqual(everything)
    expect(plan_epoch(table, 0, { ...options, strategy })).toEqual(batches)
    if (strategy === 'sequential') expect(flat(batches)).toEqual(everything)
    else expect(plan_epoch(table, 1, { ...options, strategy })).not.toEqual(batches)
  })

  test('grouping by length leaves less padding', () => {
    const grouped = padded(plan_epoch(table, 0, { ...options, strategy: 'group_by_length' }))
    expect(grouped).toBeLessThan(0.7 * padded(plan_epoch(table, 0, options)))
  })

  test('the last batch can be left out', () => {
    for (const strategy of ['random', 'group_by_length'] as const) {
      const batches = plan_epoch(table, 0, { ...options, strategy, drop_last: true })
      expect(batches.length).toBe(125)
      expect(batches.every((batch) => batch.length === 8)).toBe(true)
    }
  })

  test('batches by tokens keep to them and are as full as they can be', () => {
    const max_tokens = 200
    const batches = plan_epoch(table, 0, { ...options, max_tokens })
    expect(flat(batches).sort((a, b) => a - b)).toEqual(everything)
    const cost = (batch: readonly number[]) =>
      batch.length *
      (Math.max(...batch.map((i) => table.source_length(i))) + Math.max(...batch.map((i) => table.target_length(i))))
    for (const [at, batch] of batches.entries()) {
      expect(cost([...batch])).toBeLessThanOrEqual(max_tokens)
      const next = batches[at + 1]
      if (next !== undefined) expect(cost([...batch, next[0] as number])).toBeGreaterThan(max_tokens)
    }
    expect(() => plan_epoch(table, 0, { ...options, max_tokens: 20 })).toThrow(/does not fit max_tokens_per_batch, 20/)
  })

  test('rows are padded, and padding does not count', () => {
    const batch = collate(
      [
        { input_ids: Int32Array.of(5, 6, 1), labels: Int32Array.of(7, 1) },
        { input_ids: Int32Array.of(8, 1), labels: Int32Array.of(9, 9, 1) },
      ],
      { pad_token_id: 0 },
    )
    const values = Object.fromEntries(batch.tensors.map(({ name, data }) => [name, [...new Int32Array(data.buffer)]]))
    expect(values).toEqual({
      input_ids: [5, 6, 1, 8, 1, 0],
      attention_mask: [1, 1, 1, 1, 1, 0],
      labels: [7, 1, -100, 9, 9, 1],
    })
    expect(batch).toMatchObject({ examples: 2, tokens: 10, targets: 5 })
  })
})

describe('span corruption', () => {
  const options = { noise_density: 0.15, mean_noise_span_length: 3 }

  test.each([2, 3, 10, 100, 512])('hides 15 % of %i tokens in spans of about 3', (length) => {
    for (let draw = 0; draw < 20; draw++) {
      const mask = random_spans_noise_mask(length, options, random(1, draw))
      const noise = mask.reduce((sum, flag) => sum + flag, 0)
      expect(noise).toBe(Math.min(Math.max(Math.round(length * 0.15), 1), length - 1))
      const spans = mask.reduce((sum, flag, i) => sum + Number(flag === 1 && mask[i - 1] !== 1), 0)
      expect(spans).toBe(Math.max(1, Math.round(noise / 3)))
      expect(mask[0]).toBe(0)
      expect(mask.at(-1)).toBe(1)
    }
  })

  test('source and target together hold every token once, in order', () => {
    const ids = Int32Array.from({ length: 60 }, (_, i) => 100 + i)
    const mask = random_spans_noise_mask(60, options, random(5))
    const sentinels = [90, 89, 88, 87]
    const { input_ids, labels } = corrupt_spans(ids, mask, sentinels, 1)
    expect(input_ids.at(-1)).toBe(1)
    expect(labels.at(-1)).toBe(1)
    // Put the target's spans where the source has their sentinels.
    const restored: number[] = []
    for (const id of input_ids) {
      if (id >= 100) restored.push(id)
      else if (id !== 1) {
        const at = labels.indexOf(id)
        for (let i = at + 1; (labels[i] as number) >= 100; i++) restored.push(labels[i] as number)
      }
    }
    expect(restored).toEqual([...ids])
    expect([...labels].filter((id) => sentinels.includes(id))).toEqual(sentinels.slice(0, 3))
    expect(() => corrupt_spans(ids, mask, [90], 1)).toThrow(/more than 1 spans/)
  })

  test('segments are as long as the original chooses them', () => {
    // T5's own: inputs of 512 tokens hold 568 tokens of text.
    expect(segment_length(512, options)).toBe(568)
  })
})

test('the same numbers draw the same, others do not', () => {
  const draw = (...numbers: number[]) => shuffle([...Array(50).keys()], random(...numbers))
  expect(draw(1, 2)).toEqual(draw(1, 2))
  expect(draw(1, 2)).not.toEqual(draw(2, 1))
  expect(draw(0)).not.toEqual(draw(2 ** 32))
})

test('prefetching keeps order, looks ahead, passes failures on and lets go', async () => {
  let made = 0
  let closed = false
  async function* numbers() {
    try {
      for (let i = 0; i < 10; i++) {
        made += 1
        if (i === 7) throw new Error('at 7')
        yield i
      }
    } finally {
      closed = true
    }
  }
  const seen: number[] = []
  await expect(async () => {
    for await (const number of prefetch(numbers(), 3)) {
      await new Promise((resolve) => setTimeout(resolve, 1))
      seen.push(number)
      if (number === 0) expect(made).toBeGreaterThanOrEqual(3)
    }
  }).rejects.toThrow('at 7')
  expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6])
  expect(closed).toBe(true)
})

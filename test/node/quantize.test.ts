/** Making quantised checkpoints, saving them again, and files that are damaged. */

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  AutoTokenizer,
  compare_quality,
  embedded_model_path,
  parse_pairs,
  quantize_checkpoint,
  SwitchTransformersForConditionalGeneration,
} from '../../ts/entry/node.js'
import { FIXTURES, run_cli } from './cli.js'

const base = path.join(FIXTURES, 'parity/base')
const int8 = path.join(FIXTURES, 'quantised/int8')
let root: string
beforeAll(() => {
  root = mkdtempSync(path.join(tmpdir(), 'quantize-'))
})
afterAll(() => rmSync(root, { recursive: true, force: true }))

const load = (folder: string, options = {}) =>
  SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend: 'native', ...options })
const input = { input_ids: [[5, 6, 7, 8]], decoder_input_ids: [[0, 9]] }
const logits = async (model: SwitchTransformersForConditionalGeneration) =>
  Array.from((await model.forward(input)).logits.data as Float32Array)

interface Header {
  [name: string]: { dtype: string; shape: number[]; data_offsets: [number, number] }
}

function read_safetensors(file: string): { header: Header; data: Buffer } {
  const bytes = readFileSync(file)
  const length = Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString('utf8'))
  delete header.__metadata__
  return { header, data: bytes.subarray(8 + length) }
}

describe('what is written', () => {
  test('has the documented layout: values, scales, and a config that says so', async () => {
    const folder = path.join(root, 'layout')
    const events: string[] = []
    const result = await quantize_checkpoint(base, folder, {
      dtype: 'int4',
      progress_callback: ({ status }) => events.push(status),
    })
    expect(result).toMatchObject({ dtype: 'int4', folder })
    expect(result.bytes).toBeLessThan(result.source_bytes / 4)
    expect(events).toContain('quantize')
    expect(events.at(-1)).toBe('write')
    const source = read_safetensors(path.join(base, 'model.safetensors'))
    const { header, data } = read_safetensors(path.join(folder, 'model.safetensors'))
    const name = 'encoder.block.0.layer.0.SelfAttention.q.weight'
    expect(header[name]).toMatchObject({ dtype: 'U8', shape: [32, 16] })
    expect(header[`${name}.scales`]).toMatchObject({ dtype: 'F32', shape: [32, 1] })
    // 48 columns are no whole groups of 32.
    const odd = 'encoder.block.0.layer.1.mlp.wo.weight'
    expect(header[odd]).toMatchObject({ dtype: 'I8', shape: [32, 48] })
    expect(header[`${odd}.scales`]).toMatchObject({ dtype: 'F32', shape: [32] })
    const router = 'encoder.block.1.layer.1.mlp.router.classifier.weight'
    expect(header[router]).toMatchObject({ dtype: 'F32' })
    // The values, read by the documentation's formulas, are near the source's.
    const at = (file: typeof source, key: string) => {
      const [start, end] = (file.header[key] as Header[string]).data_offsets
      return file.data.subarray(start, end)
    }
    const bytes = at({ header, data }, name)
    const scales = at({ header, data }, `${name}.scales`)
    const wide = at(source, name)
    for (let row = 0; row < 32; row++) {
      const scale = scales.readFloatLE(row * 4)
      for (let col = 0; col < 32; col++) {
        const byte = bytes[row * 16 + (col % 16)] as number
        const value = scale * ((col < 16 ? byte & 15 : byte >> 4) - 8)
        expect(Math.abs(value - wide.readFloatLE((row * 32 + col) * 4))).toBeLessThan(scale * 3)
      }
    }
  })

  test.each(['native', 'wasm'] as const)(
    'loads again after saving, in one file and in shards (%s)',
    async (backend) => {
      await using model = await load(int8, { backend })
      const folder = path.join(root, `again-${backend}`)
      await model.save_pretrained(folder, { max_shard_size: '40KB' })
      expect(readdirSync(folder).filter((file) => file.endsWith('.safetensors')).length).toBeGreaterThan(2)
      await using again = await load(folder, { backend })
      expect(await logits(again)).toEqual(await logits(model))
      await model.save_pretrained(folder)
      const [one, same] = [int8, folder].map((from) => readFileSync(path.join(from, 'model.safetensors')))
      expect(same?.equals(one as Buffer)).toBe(true)
    },
  )

  test('widens when it is saved in floating point', async () => {
    await using model = await load(int8)
    const folder = path.join(root, 'wide')
    await model.save_pretrained(folder, { dtype: 'float32' })
    const config = JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8'))
    expect(config.quantization_config).toBeUndefined()
    expect(config.dtype).toBe('float32')
    await using wide = await load(folder)
    await using widened = await load(int8, { dtype: 'float32' })
    expect(await logits(wide)).toEqual(await logits(widened))
  })

  test('is refused: a folder that holds something, a quantised source, an unknown form, saving in int8', async () => {
    const folder = path.join(root, 'layout')
    await expect(quantize_checkpoint(base, folder, { dtype: 'int8' })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      details: { option: 'force' },
    })
    await quantize_checkpoint(base, folder, { dtype: 'int8', force: true })
    await expect(quantize_checkpoint(int8, path.join(root, 'twice'), { dtype: 'int4' })).rejects.toMatchObject({
      code: 'CHECKPOINT_UNSUPPORTED',
    })
    await expect(quantize_checkpoint(base, path.join(root, 'x'), { dtype: 'int2' as never })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
    })
    await using model = await load(base)
    await expect(model.save_pretrained(path.join(root, 'y'), { dtype: 'int8' as never })).rejects.toMatchObject({
      code: 'UNSUPPORTED_OPTION',
    })
  })
})

describe('damaged files', () => {
  /** A copy of the int8 fixture whose header and data `change` has changed. */
  function damaged(change: (header: Header, data: Buffer) => void): string {
    const folder = mkdtempSync(path.join(root, 'damaged-'))
    const { header, data } = read_safetensors(path.join(int8, 'model.safetensors'))
    const copy = Buffer.from(data)
    change(header, copy)
    const text = Buffer.from(JSON.stringify(header))
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(text.length))
    writeFileSync(path.join(folder, 'model.safetensors'), Buffer.concat([length, text, copy]))
    writeFileSync(path.join(folder, 'config.json'), readFileSync(path.join(int8, 'config.json')))
    return folder
  }
  const name = 'decoder.block.0.layer.0.SelfAttention.k.weight'
  const scales = `${name}.scales`
  const with_scale = (value: number) => (header: Header, data: Buffer) => {
    data.writeFloatLE(value, (header[scales] as Header[string]).data_offsets[0] + 8)
  }

  test.each([
    ['a scale that is NaN', with_scale(Number.NaN), 'CHECKPOINT_CORRUPT', scales],
    ['a scale that is infinite', with_scale(Number.POSITIVE_INFINITY), 'CHECKPOINT_CORRUPT', scales],
    ['a negative scale', with_scale(-0.5), 'CHECKPOINT_CORRUPT', scales],
    [
      'scales that are missing',
      (header: Header) => {
        const { [scales]: gone } = header
        header['another.weight'] = gone as Header[string]
        delete header[scales]
      },
      'CHECKPOINT_MISMATCH',
      scales,
    ],
    [
      'values of another type',
      (header: Header) => {
        ;(header[name] as Header[string]).dtype = 'U8'
      },
      'CHECKPOINT_MISMATCH',
      'found U8, expected I8',
    ],
    [
      'scales of another type',
      (header: Header) => {
        ;(header[scales] as Header[string]).dtype = 'I32'
      },
      'CHECKPOINT_MISMATCH',
      'found I32, expected F32',
    ],
    [
      'values of another shape',
      (header: Header) => {
        ;(header[name] as Header[string]).shape = [16, 64]
      },
      'CHECKPOINT_MISMATCH',
      'found [16, 64]',
    ],
    [
      'a shape that overflows',
      (header: Header) => {
        ;(header[name] as Header[string]).shape = [2 ** 52, 2 ** 52]
      },
      // More than can be counted: with 64 bits in all, with 32 (WASM) already in one dimension.
      /^CHECKPOINT_(?:CORRUPT|UNSUPPORTED)$/,
      '',
    ],
  ])('%s', async (_, change, code, word) => {
    for (const backend of ['native', 'wasm']) {
      const error = await load(damaged(change), { backend }).then(
        () => ({ code: 'loaded', message: '' }),
        (error: { code: string; message: string }) => error,
      )
      expect(error.code).toEqual(typeof code === 'string' ? code : expect.stringMatching(code))
      expect(error.message).toContain(word)
    }
  })
})

describe('quality', () => {
  const pairs = [
    { input: 'hello', target: 'HH EH1 L OW0' },
    { input: 'abdominal', target: 'AE0 B D AA1 M AH0 N AH0 L' },
    { input: 'a', target: 'AH0' },
  ]

  test('compares loss, routing and the most probable tokens with the source', async () => {
    const folder = path.join(root, 'g2p')
    await quantize_checkpoint(embedded_model_path(), folder, { dtype: 'int8' })
    expect(readdirSync(folder)).toContain('tokenizer.json')
    const report = await compare_quality(embedded_model_path(), folder, { pairs })
    expect(report).toMatchObject({ pairs: 3 })
    expect(Math.abs(report.relative_loss_change)).toBeLessThan(0.05)
    expect(report.relative_loss_change).not.toBe(0)
    expect(report.routing_agreement).toBeGreaterThan(0.95)
    expect(report.token_agreement).toBeGreaterThan(0.95)
    const same = await compare_quality(embedded_model_path(), embedded_model_path(), { pairs })
    expect(same).toMatchObject({ relative_loss_change: 0, routing_agreement: 1, token_agreement: 1 })
  })

  test('a line without a tab is its own target where the tokenizer has no sentinels', async () => {
    const tokenizer = await AutoTokenizer.from_pretrained(embedded_model_path())
    expect(parse_pairs('a\tb\nplain\n', tokenizer)).toEqual([
      { input: 'a', target: 'b' },
      { input: 'plain', target: 'plain' },
    ])
    expect(() => parse_pairs(' \n', tokenizer)).toThrow(/empty/)
  })

  test('with sentinels, three of every twenty tokens are asked for', () => {
    // A word a token.
    const tokenizer = {
      convert_tokens_to_ids: (token: string) => (token === '<extra_id_x>' ? null : 1),
      encode: (text: string) => text.split(' ').map(Number),
      decode: (ids: number[]) => ids.join(' '),
    } as unknown as Parameters<typeof parse_pairs>[1]
    const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i).join(' ')
    expect(parse_pairs(numbers(0, 40), tokenizer)).toEqual([
      {
        input: `${numbers(0, 17)} <extra_id_0> ${numbers(20, 37)} <extra_id_1>`,
        target: '<extra_id_0> 17 18 19 <extra_id_1> 37 38 39 <extra_id_2>',
      },
    ])
    expect(parse_pairs('1 2 3 4 5', tokenizer)).toEqual([
      { input: '1 2 <extra_id_0>', target: '<extra_id_0> 3 4 5 <extra_id_1>' },
    ])
  })
})

describe('the command', () => {
  test('writes a checkpoint and a report, and refuses to overwrite', async () => {
    const folder = path.join(root, 'cli')
    const pairs = path.join(root, 'pairs.tsv')
    writeFileSync(pairs, 'hello\tHH EH1 L OW0\nabela\tAH0 B EH1 L AH0\n')
    const args = ['quantize', embedded_model_path(), folder, '--dtype', 'mixed', '--report', pairs]
    const { code, stdout, stderr } = await run_cli(args)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/5\.53 M parameters in mixed, 11\.1 MB to 3\.\d+ MB/)
    expect(stdout).toContain('routing agreement')
    expect(readdirSync(folder).sort()).toEqual([
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'quantization_report.json',
      'quantization_report.md',
      'tokenizer.json',
      'tokenizer_config.json',
    ])
    expect(JSON.parse(readFileSync(path.join(folder, 'quantization_report.json'), 'utf8'))).toMatchObject({ pairs: 2 })
    const generated = await run_cli(['generate', 'hello', '--model', folder])
    expect(generated.stdout).toBe('HH EH1 L OW0\n')
    const again = await run_cli(args)
    expect(again.code).toBe(2)
    expect(again.stderr).toMatch(/^error \[INVALID_OPTION\]: .*is not empty.*\n$/)
    const forced = await run_cli([...args.slice(0, 5), '--force', '--json', '--max-shard-size', '1MB'])
    expect(forced.code).toBe(0)
    expect(JSON.parse(forced.stdout)).toMatchObject({ dtype: 'mixed' })
    expect(readdirSync(folder)).toContain('model.safetensors.index.json')
  })

  test('a report file that is not there is said before the work', async () => {
    const folder = path.join(root, 'none')
    const { code, stderr } = await run_cli(['quantize', base, folder, '--report', path.join(root, 'nothing.tsv')])
    expect(code).toBe(2)
    expect(stderr).toMatch(/^error \[FILE_NOT_FOUND\]/)
  })
})

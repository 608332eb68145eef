/** `merge` as users run it: a base and an adapter become a folder that needs neither. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { merge_adapter, SwitchTransformersForConditionalGeneration } from '../../ts/entry/node.js'
import { FIXTURES, run_cli } from './cli.js'

const BASE = path.join(FIXTURES, 'parity/base')
const PEFT = path.join(FIXTURES, 'adapters/peft')
const G2P = path.join(import.meta.dirname, '../../ts/assets/g2p')

let folder: string
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'merge-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const INPUTS = { input_ids: [[5, 6, 7, 8, 9, 1]], decoder_input_ids: [[0, 4, 3]] }

async function logits(name: string, adapter?: string): Promise<Float32Array> {
  await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(name, { backend: 'native' })
  if (adapter !== undefined) await model.load_adapter(adapter)
  return (await model.forward(INPUTS)).logits?.data as Float32Array
}

describe('merge BASE ADAPTER FOLDER', () => {
  test('writes a model with the same outputs', async () => {
    const out = path.join(folder, 'merged')
    const { code, stdout, stderr } = await run_cli(['merge', BASE, PEFT, out, '--json'])
    expect([code, stderr]).toEqual([0, ''])
    expect(JSON.parse(stdout)).toMatchObject({ folder: out, parameters: expect.any(Number) })
    const expected = await logits(BASE, PEFT)
    const found = await logits(out)
    expect(Math.max(...found.map((value, i) => Math.abs(value - (expected[i] as number))))).toBeLessThan(1e-5)
    expect(JSON.parse(readFileSync(path.join(out, 'config.json'), 'utf8'))).toMatchObject({ dtype: 'float32' })
    const again = await run_cli(['merge', BASE, PEFT, out])
    expect(again.code).not.toBe(0)
    expect(again.stderr).toContain('is not empty')
  })

  test('what training left with --keep-adapters, tokenizer included', async () => {
    const data = path.join(folder, 'pairs.tsv')
    writeFileSync(data, 'hello\tK W AH1 K\nworld\tM UW1\n')
    const adapter = path.join(folder, 'adapter')
    const trained = await run_cli([
      ...['train', '--data', data, '--out', adapter, '--model', G2P, '--lora', '{"rank":2}', '--keep-adapters'],
      ...['--max-steps', '2', '--save-strategy', 'no'],
    ])
    expect([trained.code, trained.stderr]).toEqual([0, expect.any(String)])
    const config = JSON.parse(readFileSync(path.join(adapter, 'adapter_config.json'), 'utf8'))
    expect(config).toMatchObject({ peft_type: 'LORA', r: 2, lora_alpha: 4, base_model_name_or_path: G2P })
    const spoken = await run_cli(['generate', 'hello', '--model', adapter])
    const out = path.join(folder, 'spoken')
    expect((await run_cli(['merge', G2P, adapter, out, '--dtype', 'bfloat16'])).code).toBe(0)
    const merged = await run_cli(['generate', 'hello', '--model', out])
    expect([spoken.code, merged.code]).toEqual([0, 0])
    expect(merged.stdout).toBe(spoken.stdout)
  })
})

test('an adapter of another model, and one that is of another kind', async () => {
  const out = path.join(folder, 'none')
  const other = path.join(FIXTURES, 'parity/inner-dim')
  await expect(merge_adapter(other, PEFT, out, { backend: 'native' })).rejects.toMatchObject({
    code: 'CHECKPOINT_MISMATCH',
    details: { misshaped: expect.any(Array) },
  })
  const config = JSON.parse(readFileSync(path.join(PEFT, 'adapter_config.json'), 'utf8'))
  const weights = readFileSync(path.join(PEFT, 'adapter_model.safetensors'))
  for (const [number, [change, code, message]] of Object.entries([
    [{ peft_type: 'IA3' }, 'CHECKPOINT_UNSUPPORTED', 'IA3'],
    [{ use_dora: true }, 'CHECKPOINT_UNSUPPORTED', 'use_dora'],
    [{ modules_to_save: ['lm_head'] }, 'CHECKPOINT_UNSUPPORTED', 'modules_to_save'],
    [{ alpha_pattern: { '.*q': 2 } }, 'CHECKPOINT_UNSUPPORTED', 'alpha_pattern'],
    [{ r: 0 }, 'INVALID_CONFIG', 'r 0'],
    [{ r: 3 }, 'CHECKPOINT_MISMATCH', 'mis-shaped'],
    [{ lora_alpha: 'much' }, 'INVALID_CONFIG', 'lora_alpha'],
    [{ lora_alpha: 1e300 }, 'INVALID_CONFIG', 'lora_alpha'],
    [{ alpha_pattern: { q: 'x' } }, 'INVALID_CONFIG', 'alpha_pattern'],
    [{ base_model_name_or_path: null }, 'CHECKPOINT_UNSUPPORTED', 'names no base'],
    [{ base_model_name_or_path: './not-there' }, 'FILE_NOT_FOUND', 'holds adapters of ./not-there'],
  ] as const)) {
    const changed = path.join(folder, `changed-${number}`)
    const base = 'base_model_name_or_path' in change ? {} : { base_model_name_or_path: BASE }
    write(changed, { 'adapter_config.json': JSON.stringify({ ...config, ...base, ...change }), weights })
    await expect(
      SwitchTransformersForConditionalGeneration.from_pretrained(changed, { backend: 'native' }),
    ).rejects.toMatchObject({ code, message: expect.stringContaining(message) })
  }
  const damaged = path.join(folder, 'damaged')
  const text = JSON.stringify({ ...config, base_model_name_or_path: BASE })
  write(damaged, { 'adapter_config.json': text, weights: weights.subarray(0, 5000) })
  await expect(
    SwitchTransformersForConditionalGeneration.from_pretrained(damaged, { backend: 'native' }),
  ).rejects.toMatchObject({ code: 'CHECKPOINT_CORRUPT' })
})

function write(place: string, { weights, ...texts }: { weights: Uint8Array; [name: string]: string | Uint8Array }) {
  mkdirSync(place, { recursive: true })
  writeFileSync(path.join(place, 'adapter_model.safetensors'), weights)
  for (const [name, text] of Object.entries(texts)) writeFileSync(path.join(place, name), text)
}

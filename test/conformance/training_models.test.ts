/** What a training leaves: a model that says what it is, that loads by the name of its folder, and whose files can be had. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  AutoTokenizer,
  backend,
  failure_of,
  fixture,
  make_tokenizer,
  model_archive,
  model_folder_files,
  type PreTrainedTokenizer,
  SwitchTransformersForConditionalGeneration,
  Trainer,
  type TrainingArguments,
  training_config,
  training_folder,
} from './library.js'

const PAIRS = ['abc', 'bcd', 'cde', 'def'].map((source) => ({ source, target: [...source].reverse().join('') }))
const ARGS: TrainingArguments = { max_steps: 2, learning_rate: 1e-3, dropout_rate: 0 }

let tokenizer: PreTrainedTokenizer
const { folder, remove } = training_folder()
beforeAll(async () => {
  tokenizer = await make_tokenizer(PAIRS.map(({ source }) => source))
})
afterAll(remove)

type Model = SwitchTransformersForConditionalGeneration

async function trained(model: Model, args: TrainingArguments = {}): Promise<Trainer> {
  const trainer = new Trainer({ model, tokenizer, args: { ...ARGS, ...args }, train_dataset: PAIRS })
  await trainer.train()
  return trainer
}

async function loss_of(model: Model): Promise<number> {
  const { input_ids, attention_mask } = tokenizer('abc')
  const { loss } = await model.forward({ input_ids, attention_mask, labels: [tokenizer.encode('cba')] })
  return Number(loss?.item())
}

describe('in a folder of its own', () => {
  const place = `${folder}/trained`
  let loss: number
  beforeAll(async () => {
    const config = training_config('tiny', tokenizer.len)
    await using model = await SwitchTransformersForConditionalGeneration.from_config(config, { backend, seed: 3 })
    const trainer = await trained(model, { output_dir: `${folder}/run`, save_steps: 2 })
    await trainer.save_model(place)
    await trainer.dispose()
    loss = await loss_of(model)
  })

  test('is loaded by its name, tokenizer included, a checkpoint too', async () => {
    for (const name of [place, `${folder}/run/checkpoint-2`]) {
      await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(name, { backend })
      expect(await loss_of(model)).toBeCloseTo(loss, 6)
      const loaded = await AutoTokenizer.from_pretrained(name)
      expect(loaded.encode('abc')).toEqual(tokenizer.encode('abc'))
    }
  })

  test('is written again by save_pretrained', async () => {
    {
      await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(place, { backend })
      await model.save_pretrained(`${folder}/again`)
      await tokenizer.save_pretrained(`${folder}/again`)
    }
    await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(`${folder}/again`, { backend })
    expect(await loss_of(model)).toBeCloseTo(loss, 6)
  })

  test('hands out its files', async () => {
    const files = await model_folder_files(place)
    const names = files.map(({ name }) => name)
    expect(names).toEqual([...names].sort())
    expect(names).toEqual(expect.arrayContaining(['config.json', 'model.safetensors', 'tokenizer.json']))
    const config = JSON.parse(await (files.find(({ name }) => name === 'config.json') as File).text())
    expect(config).toMatchObject({ model_type: 'switch_transformers', d_model: training_config('tiny', 10).d_model })
  })

  test('and all of them as one archive', async () => {
    const files = await model_folder_files(place)
    const archive = await model_archive(place)
    expect(archive.name).toBe('trained.tar')
    const bytes = new Uint8Array(await archive.arrayBuffer())
    expect(bytes.length % 512).toBe(0)
    const text = (at: number, length: number) =>
      new TextDecoder().decode(bytes.subarray(at, at + length)).replace(/[\0 ]+$/, '')
    let at = 0
    for (const file of files) {
      expect(text(at, 100)).toBe(`trained/${file.name}`)
      expect(text(at + 257, 5)).toBe('ustar')
      expect(Number.parseInt(text(at + 124, 12), 8)).toBe(file.size)
      const header = bytes.slice(at, at + 512).fill(32, 148, 156)
      expect(Number.parseInt(text(at + 148, 8), 8)).toBe(header.reduce((sum, byte) => sum + byte))
      const stored = bytes.subarray(at + 512, at + 512 + file.size)
      const original = new Uint8Array(await file.arrayBuffer())
      expect(stored.every((byte, i) => byte === original[i])).toBe(true)
      at += 512 + Math.ceil(file.size / 512) * 512
    }
    expect(bytes.subarray(at).every((byte) => byte === 0)).toBe(true)
  })

  test('nothing is made of a folder that is not there', async () => {
    for (const call of [model_folder_files, model_archive]) {
      expect(await failure_of(() => call(`${folder}/none`))).toMatchObject({ code: 'FILE_NOT_FOUND' })
      expect(await failure_of(() => call(''))).toMatchObject({ code: 'INVALID_INPUT' })
    }
  })
})

describe('says what its weights are', () => {
  test('float32 once they are trained, as many as before', async () => {
    const config = training_config('tiny', tokenizer.len)
    await using model = await SwitchTransformersForConditionalGeneration.from_config(config, {
      backend,
      dtype: 'bfloat16',
    })
    const [bytes, all, active] = [model.weight_bytes, model.num_parameters(), model.num_parameters({ active: true })]
    expect(model.dtype).toBe('bfloat16')
    const trainer = await trained(model)
    expect(model.dtype).toBe('float32')
    expect(model.weight_bytes).toBeGreaterThan(1.9 * bytes)
    expect(model.num_parameters()).toBe(all)
    expect(model.num_parameters({ active: true })).toBe(active)
    await trainer.dispose()
    expect(model.dtype).toBe('float32')
  })

  test('no longer quantised, also where a part of them stays so until it is saved', async () => {
    for (const [name, args] of Object.entries({
      all: {},
      some: { trainable: 'non_expert' } satisfies TrainingArguments,
      adapters: { lora: { rank: 2 } } satisfies TrainingArguments,
    })) {
      const config = { ...training_config('tiny', tokenizer.len) }
      await using model = await SwitchTransformersForConditionalGeneration.from_config(config, {
        backend,
        dtype: 'int8',
      })
      expect(model.config.quantization_config).toBeDefined()
      const trainer = await trained(model, { ...args, output_dir: `${folder}/quantised-${name}`, save_steps: 2 })
      expect(model.config.quantization_config === undefined).toBe(name === 'all')
      if (name === 'adapters') await trainer.merge_adapters()
      await trainer.save_model(`${folder}/quantised-${name}-model`)
      await trainer.dispose()
      const places = [`${folder}/quantised-${name}-model`]
      if (name !== 'adapters') places.push(`${folder}/quantised-${name}/checkpoint-2`)
      for (const place of places) {
        await using loaded = await SwitchTransformersForConditionalGeneration.from_pretrained(place, { backend })
        expect([place, loaded.config.quantization_config, loaded.dtype]).toEqual([place, undefined, 'float32'])
        expect(await loss_of(loaded)).toBeCloseTo(await loss_of(model), 1)
      }
    }
  })
})

test('folders of fixtures are not taken for others', async () => {
  const failure = await failure_of(() =>
    SwitchTransformersForConditionalGeneration.from_pretrained(`${fixture('parity')}/none`, { backend }),
  )
  expect(failure).toMatchObject({ code: 'FILE_NOT_FOUND' })
})

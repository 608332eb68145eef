/** LoRA adapters as folders: those that PEFT wrote, and those that a training wrote, on every backend. */

import { afterAll, afterEach, describe, expect, test } from 'vitest'
import {
  AutoTokenizer,
  backend,
  failure_of,
  fixture,
  g2p,
  read_tensors,
  relative_error,
  SwitchTransformersEncoderModel,
  SwitchTransformersForConditionalGeneration,
  type Tensor,
  Trainer,
  training_folder,
} from './library.js'

const BASE = fixture('parity/base')
const PEFT = fixture('adapters/peft')

const { folder, remove } = training_folder()
afterAll(remove)

const models: { dispose(): Promise<void> }[] = []
afterEach(async () => {
  await Promise.all(models.splice(0).map((model) => model.dispose()))
})

async function load(name = BASE, options: object = {}) {
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained(name, { backend, ...options })
  models.push(model)
  return model
}

/** How far the logits are from what the reference gives. */
async function difference(model: SwitchTransformersForConditionalGeneration, name: 'logits' | 'plain') {
  const inputs = await read_tensors(BASE, 'inputs.safetensors')
  const expected = (await read_tensors(fixture('adapters'), 'expected.safetensors')).get(name) as Tensor
  const [input_ids, attention_mask, labels] = ['input_ids', 'attention_mask', 'labels'].map((key) => inputs.get(key))
  return relative_error((await model.forward({ input_ids, attention_mask, labels })).logits as Tensor, expected)
}

function largest(a: ArrayLike<number | bigint>, b: ArrayLike<number | bigint>): number {
  let found = a.length === b.length ? 0 : Number.POSITIVE_INFINITY
  for (let i = 0; i < a.length; i++) found = Math.max(found, Math.abs(Number(a[i]) - Number(b[i])))
  return found
}

describe("PEFT's adapters", () => {
  test('give what they give in the reference, and are taken away again', async () => {
    const model = await load()
    expect(await difference(model, 'plain')).toBeLessThan(1e-5)
    await model.load_adapter(PEFT)
    expect(await difference(model, 'logits')).toBeLessThan(1e-5)
    await model.unload_adapter()
    expect(await difference(model, 'plain')).toBeLessThan(1e-5)
  })

  test('replace each other, and are merged for good', async () => {
    const model = await load()
    await model.load_adapter(PEFT)
    await model.load_adapter(PEFT)
    expect(await difference(model, 'logits')).toBeLessThan(1e-5)
    await model.merge_adapters()
    expect(await difference(model, 'logits')).toBeLessThan(1e-5)
    expect(await failure_of(() => model.merge_adapters())).toMatchObject({ code: 'INVALID_INPUT' })
    expect(await failure_of(() => model.unload_adapter())).toMatchObject({ code: 'INVALID_INPUT' })
    await model.save_pretrained(`${folder}/merged`)
    expect(await difference(await load(`${folder}/merged`), 'logits')).toBeLessThan(1e-5)
  })

  test('fit a part of the model', async () => {
    await using encoder = await SwitchTransformersEncoderModel.from_pretrained(BASE, { backend })
    await using adapted = await SwitchTransformersEncoderModel.from_pretrained(BASE, { backend })
    await adapted.load_adapter(PEFT)
    const inputs = { input_ids: [[5, 6, 7, 1]] }
    const [plain, other] = [await encoder(inputs), await adapted(inputs)]
    expect(largest(plain.last_hidden_state.data, other.last_hidden_state.data)).toBeGreaterThan(1e-3)
  })

  test('say what they do to a model in half precision', async () => {
    const model = await load(fixture('parity/bf16-weights'))
    const [bytes, parameters] = [model.weight_bytes, model.num_parameters()]
    expect(model.dtype).toBe('bfloat16')
    await model.load_adapter(PEFT)
    // What is adapted is float32 now.
    expect(model.weight_bytes).toBeGreaterThan(bytes)
    expect(model.num_parameters()).toBe(parameters)
    await model.unload_adapter()
    expect(model.weight_bytes).toBe(bytes)
  })
})

describe('a training’s adapters', () => {
  const pairs = [
    ['hello', 'K W AH1 K'],
    ['world', 'M UW1'],
  ] as const
  const word = 'hello'

  /** What a model writes, and its logits. */
  async function answer(model: SwitchTransformersForConditionalGeneration) {
    const tokenizer = await AutoTokenizer.from_pretrained(g2p)
    const ids = await model.generate({ ...tokenizer(word), max_new_tokens: 8 })
    const { logits } = await model.forward({ ...tokenizer(word), labels: [tokenizer.encode('K W AH1 K')] })
    return {
      text: tokenizer.decode((ids.tolist() as bigint[][])[0]?.map(Number) ?? []),
      logits: (logits as Tensor).data,
    }
  }

  test('load with their base, merge, and go into a folder of their own', async () => {
    const model = await load(g2p)
    const tokenizer = await AutoTokenizer.from_pretrained(g2p)
    const bytes = model.weight_bytes
    const before = await answer(model)
    const trainer = new Trainer({
      model,
      tokenizer,
      train_dataset: pairs,
      args: {
        output_dir: `${folder}/training`,
        max_steps: 5,
        save_steps: 5,
        learning_rate: 1e-2,
        lora: { rank: 4, targets: ['q', 'v', 'wi', 'wo'] },
      },
    })
    await trainer.train()
    expect(model.weight_bytes).toBeGreaterThan(bytes)
    const trained = await answer(model)
    expect(largest(trained.logits, before.logits)).toBeGreaterThan(0.1)
    await trainer.save_model(`${folder}/adapter`)
    // A training holds the weights.
    expect(await failure_of(() => model.load_adapter(`${folder}/adapter`))).toMatchObject({ code: 'INVALID_INPUT' })
    await trainer.merge_adapters()
    await trainer.save_model(`${folder}/whole`)
    await trainer.dispose()
    expect((await answer(model)).logits).toEqual(trained.logits)

    // The folder names its base, a checkpoint of the training too; and a base takes them.
    for (const name of [`${folder}/adapter`, `${folder}/training/checkpoint-5`, `${folder}/whole`]) {
      const { text, logits } = await answer(await load(name))
      expect([name, text, largest(logits, trained.logits) < 1e-5]).toEqual([name, trained.text, true])
    }
    const base = await load(g2p)
    await base.load_adapter(`${folder}/adapter`)
    expect(largest((await answer(base)).logits, trained.logits)).toBeLessThan(1e-5)
    await base.merge_adapters()
    await base.save_pretrained(`${folder}/by-hand`)
    expect(largest((await answer(await load(`${folder}/by-hand`))).logits, trained.logits)).toBeLessThan(1e-5)
    expect((await AutoTokenizer.from_pretrained(`${folder}/adapter`)).encode(word)).toEqual(tokenizer.encode(word))
  })
})

describe('what goes wrong', () => {
  test('a base that does not fit, which stays as it was', async () => {
    const model = await load(fixture('parity/inner-dim'))
    const before = await model.state_dict()
    const failure = await failure_of(() => model.load_adapter(PEFT))
    expect(failure).toMatchObject({ code: 'CHECKPOINT_MISMATCH', name: 'CheckpointError' })
    expect(failure.message).toMatch(/does not fit this model: found \d+ (?:mis-shaped|that no module)/)
    const after = await model.state_dict()
    for (const [name, tensor] of Object.entries(before)) expect(after[name]?.data).toEqual(tensor.data)
  })

  test('a base that is quantised', async () => {
    const model = await load(BASE, { dtype: 'int8' })
    expect(await failure_of(() => model.load_adapter(PEFT))).toMatchObject({
      code: 'CHECKPOINT_UNSUPPORTED',
      message: expect.stringContaining('merge the adapters, and quantise'),
    })
  })

  test('folders that hold none, and options that are none', async () => {
    const model = await load()
    expect(await failure_of(() => model.load_adapter(BASE))).toMatchObject({ code: 'FILE_NOT_FOUND' })
    expect(await failure_of(() => model.load_adapter(PEFT, { scale: 2 } as object))).toMatchObject({
      code: 'UNSUPPORTED_OPTION',
    })
    await model.dispose()
    expect(await failure_of(() => model.load_adapter(PEFT))).toMatchObject({ code: 'DISPOSED' })
    models.splice(0)
  })
})

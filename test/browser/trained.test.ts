/** A model that a page has trained, in its origin private file system: by which names it loads, and how a user gets it. */

import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { commands } from 'vitest/browser'
import {
  AutoTokenizer,
  download_model,
  make_tokenizer,
  model_archive,
  SwitchTransformersForConditionalGeneration,
  Trainer,
  training_config,
} from './host.js'
import './hub_commands_types.js'

const ROOT = `trained-${crypto.randomUUID()}`
const FOLDER = `${ROOT}/reversed`
const PAIRS = [
  ['abc', 'cba'],
  ['bcd', 'dcb'],
] as const

describe.runIf(inject('artefact') === 'simd')('a model that was trained here', () => {
  beforeAll(async () => {
    const tokenizer = await make_tokenizer(PAIRS.flat())
    const model = await SwitchTransformersForConditionalGeneration.from_config(training_config('tiny', tokenizer.len))
    const trainer = new Trainer({ model, tokenizer, args: { max_steps: 2 }, train_dataset: PAIRS })
    await trainer.train()
    await trainer.save_model(FOLDER)
    await trainer.dispose()
    await model.dispose()
  })

  afterAll(async () => (await navigator.storage.getDirectory()).removeEntry(ROOT, { recursive: true }))

  const names = [FOLDER, `opfs:${FOLDER}`, `opfs:/${FOLDER}/`]
  test.each(names.map((name) => [name.replace(ROOT, 'ROOT'), name]))('loads as %s', async (_, name) => {
    const files: string[] = []
    await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(name, {
      progress_callback: (event) => void (event.status === 'done' && files.push(event.file)),
    })
    expect(model.dtype).toBe('float32')
    expect(files).toContain('model.safetensors')
    const tokenizer = await AutoTokenizer.from_pretrained(name)
    expect(tokenizer.decode(tokenizer.encode('abc'), { skip_special_tokens: true })).toBe('abc')
  })

  test('is not looked for elsewhere, and what is not there has no file', async () => {
    const load = (name: string) => SwitchTransformersForConditionalGeneration.from_pretrained(name)
    await expect(load(`opfs:${ROOT}/none`)).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
    await expect(load('opfs:../none')).rejects.toMatchObject({ code: 'INVALID_INPUT' })
    // A folder without a model is no model: the name is a hub's, and not one that a hub can have.
    await expect(load(`${ROOT}/reversed/none`)).rejects.toMatchObject({ code: 'INVALID_INPUT' })
    await expect(load(`opfs:${ROOT}`)).rejects.toMatchObject({
      code: 'FILE_NOT_FOUND',
      message: expect.stringContaining('no config.json'),
    })
  })

  test('is downloaded as an archive', async () => {
    const archive = await model_archive(FOLDER)
    const [{ name, size, start }] = await Promise.all([commands.next_download(), download_model(FOLDER)])
    expect([name, size]).toEqual(['reversed.tar', archive.size])
    expect(start).toMatch(/^reversed\/config\.json\0/)
  })
})

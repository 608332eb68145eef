/** Aborting, disposing, and weights that are not numbers. */

import { describe, expect, test } from 'vitest'
import {
  backend,
  backend_under_test,
  failure_of,
  fixture,
  rows_of,
  SwitchTransformersForConditionalGeneration,
  type Tensor,
} from './library.js'

const folder = fixture('parity/base')
const input_ids = [[5, 6, 7, 8]]

async function load(options: object = {}) {
  return SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend, ...options })
}

/** The process and its backend go on. */
async function expect_healthy() {
  await using model = await load()
  expect((await model.generate({ input_ids, max_new_tokens: 3 })).dims[0]).toBe(1)
}

describe('abort', () => {
  test('before loading', async () => {
    const error = await failure_of(() => load({ signal: AbortSignal.abort(new Error('stop')) }))
    expect(error).toMatchObject({ code: 'ABORTED', name: 'AbortError', cause: { message: 'stop' } })
    await expect_healthy()
  })

  test('while weights are loaded', async () => {
    const controller = new AbortController()
    const progress_callback = ({ status }: { status: string }) => {
      if (status === 'load') controller.abort()
    }
    expect(await failure_of(() => load({ signal: controller.signal, progress_callback }))).toMatchObject({
      code: 'ABORTED',
    })
    await expect_healthy()
  })

  test('after loading: the model is not affected', async () => {
    const controller = new AbortController()
    await using model = await load({ signal: controller.signal })
    controller.abort()
    expect((await model.generate({ input_ids, max_new_tokens: 3 })).dims[0]).toBe(1)
  })

  test("an error in progress_callback leaves nothing behind and is the caller's own", async () => {
    const mine = new Error('mine')
    const progress_callback = ({ status }: { status: string }) => {
      if (status === 'load') throw mine
    }
    expect(await failure_of(() => load({ progress_callback }))).toBe(mine)
    await expect_healthy()
  })

  test('before and during a generation', async () => {
    await using model = await load()
    const before = await failure_of(() => model.generate({ input_ids, max_new_tokens: 3, signal: AbortSignal.abort() }))
    expect(before).toMatchObject({ code: 'ABORTED' })
    const controller = new AbortController()
    const generation = failure_of(() =>
      model.generate({ input_ids, max_new_tokens: 1_000_000, eos_token_id: null, signal: controller.signal }),
    )
    setTimeout(() => controller.abort(), 60)
    expect(await generation).toMatchObject({ code: 'ABORTED' })
    expect((await model.generate({ input_ids, max_new_tokens: 3 })).dims[0]).toBe(1)
  })
})

describe('dispose', () => {
  test('calls afterwards throw DisposedError, whatever they are given', async () => {
    const model = await load()
    expect(model.disposed).toBe(false)
    await model.dispose()
    await model.dispose()
    expect(model.disposed).toBe(true)
    for (const run of [
      () => model.generate({ input_ids, max_new_tokens: 3 }),
      () => model.forward({ input_ids, decoder_input_ids: [[0]] }),
      () => model.forward({} as never),
      () => model({ input_ids, decoder_input_ids: [[0]] }),
      () => model.state_dict(),
      () => model.stream({ input_ids }).next(),
    ]) {
      expect(await failure_of(run)).toMatchObject({ code: 'DISPOSED', name: 'DisposedError' })
    }
    await expect_healthy()
  })

  test('using frees it', async () => {
    let kept: SwitchTransformersForConditionalGeneration
    {
      using model = await load()
      kept = model
    }
    expect(kept.disposed).toBe(true)
  })

  test('a forward pass under way ends well', async () => {
    const model = await load()
    const pass = model.forward({ input_ids, decoder_input_ids: [[0]] })
    await model.dispose()
    expect((await pass).logits.dims).toEqual([1, 1, 120])
  })

  test('a generation under way ends with DisposedError', async () => {
    const model = await load()
    const generation = failure_of(() => model.generate({ input_ids, max_new_tokens: 1_000_000, eos_token_id: null }))
    setTimeout(() => void model.dispose(), 50)
    expect(await generation).toMatchObject({ code: 'DISPOSED' })
    await expect_healthy()
  })

  test('a cache used after it, or after its model', async () => {
    const model = await load()
    const pass = { input_ids, decoder_input_ids: [[0]], use_cache: true }
    const { past_key_values } = await model.forward(pass)
    expect(past_key_values).toBeDefined()
    await past_key_values?.dispose()
    const again = { input_ids, decoder_input_ids: [[5]], ...(past_key_values && { past_key_values }) }
    expect(await failure_of(() => model.forward(again))).toMatchObject({ code: 'DISPOSED' })
    await model.dispose()
  })

  test('breaking off a stream frees its session', async () => {
    await using model = await load()
    for (let round = 0; round < 5; round++) {
      for await (const { token } of model.stream({ input_ids, max_new_tokens: 50, eos_token_id: null })) {
        expect(Number.isInteger(token)).toBe(true)
        break
      }
    }
    const chosen = await backend_under_test()
    const error = await failure_of(() => chosen.call('generation_step', { session: 1, max_steps: 1 }))
    expect(error.code).toBe('INVALID_HANDLE')
  })
})

test('NaN weights load, and their output is NaN rather than an error', async () => {
  await using model = await SwitchTransformersForConditionalGeneration.from_pretrained(fixture('hostile/nan-weights'), {
    backend,
  })
  const { logits } = await model.forward({ input_ids, decoder_input_ids: [[0]] })
  expect((logits as Tensor).data.some((value) => Number.isNaN(Number(value)))).toBe(true)
})

test('two models at once, and two generations of one', async () => {
  await using first = await load()
  await using second = await load()
  const alone = rows_of(await first.generate({ input_ids, max_new_tokens: 10 }))
  const results = await Promise.all(
    [first, second, first].map((model) => model.generate({ input_ids, max_new_tokens: 10 })),
  )
  for (const ids of results) expect(rows_of(ids)).toEqual(alone)
})

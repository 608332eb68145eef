/** Gradients and optimiser steps, against those of the reference. */

import { afterEach, describe, expect, test } from 'vitest'
import type { Operations, StepReport, TrainingOptions, WireTensor } from '../../ts/backend/contract.js'
import { unwire_all, wire } from '../../ts/backend/wire.js'
import {
  backend,
  fixture,
  read_json,
  read_tensors,
  relative_error,
  SwitchTransformersForConditionalGeneration,
  Tensor,
} from './library.js'

const QUIET = { dropout_rate: 0, expert_dropout_rate: 0, router_jitter_noise: 0 } satisfies TrainingOptions

const models: SwitchTransformersForConditionalGeneration[] = []
afterEach(async () => {
  await Promise.all(models.splice(0).map((model) => model.dispose()))
})

/** A case's model in training, and its batch. */
async function start(name: string, options: TrainingOptions = QUIET) {
  const folder = fixture(`parity/${name}`)
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend })
  models.push(model)
  const inputs = await read_tensors(folder, 'inputs.safetensors')
  const batch = ['input_ids', 'attention_mask', 'labels'].map((key) => {
    const { dims, data } = inputs.get(key) as Tensor
    return wire(key, Int32Array.from(data as ArrayLike<number>, Number), dims)
  })
  const { handle } = model
  const { training } = (await handle.call('training_start', { model: handle.id, options })).reply
  return {
    model,
    batch,
    step: async (number = 0, rows: WireTensor[] = batch, loss_scale = 1): Promise<StepReport> =>
      (await handle.call('training_step', { training, step: number, loss_scale }, rows)).reply,
    evaluate: async () => (await handle.call('training_evaluate', { training }, batch)).reply,
    update: async (request: Omit<Operations['training_update']['request'], 'training'>) =>
      (await handle.call('training_update', { training, ...request })).reply,
    gradients: async () => {
      return unwire_all((await handle.call('training_gradients', { training })).tensors)
    },
    clear: () => handle.call('training_clear_gradients', { training }),
    merge: () => handle.call('training_merge_adapters', { training }),
  }
}

describe.each(['base', 'untied', 'gated-gelu', 'router-bias', 'capacity-drop'])('gradients of %s', (name) => {
  test.each([false, true])('as in the reference, gradient_checkpointing: %s', async (gradient_checkpointing) => {
    const training = await start(name, { ...QUIET, gradient_checkpointing })
    const { loss } = await training.step()
    const expected = await read_tensors(fixture(`parity/${name}`), 'grads.safetensors')
    const losses = await read_tensors(fixture(`parity/${name}`), 'expected.safetensors')
    expect(Math.abs(loss - Number(losses.get('loss')?.data[0]))).toBeLessThanOrEqual(1e-5 * loss)
    const actual = await training.gradients()
    const wrong: string[] = []
    for (const [key, reference] of expected) {
      const gradient = actual.get(key)
      const error = gradient === undefined ? Number.NaN : relative_error(gradient, reference)
      if (!(error <= 1e-4)) wrong.push(`${key}: ${error}`)
    }
    expect(wrong).toEqual([])
  })
})

interface Run {
  case: string
  optimizer: string
  options: { lr?: number; betas?: [number, number]; weight_decay?: number; max_grad_norm?: number } & Record<
    string,
    unknown
  >
  losses: number[]
}

test('ten steps of each optimiser follow the losses of the reference', { timeout: 120_000 }, async () => {
  const { runs } = await read_json<{ runs: Run[] }>(fixture('training'), 'steps.json')
  for (const run of runs) {
    const { lr = 0, betas = [0.9, 0.999], weight_decay = 0, max_grad_norm = null, ...rest } = run.options
    const optimizer: TrainingOptions['optimizer'] = run.optimizer.startsWith('adamw')
      ? { type: 'adamw', beta1: betas[0], beta2: betas[1], weight_decay }
      : { type: 'adafactor', weight_decay, ...rest }
    const training = await start(run.case, { ...QUIET, optimizer })
    for (const [number, expected] of run.losses.entries()) {
      const { loss } = await training.step(number)
      expect([run.case, run.optimizer, number, Math.abs(loss - expected) <= 1e-4 * expected || loss]).toEqual([
        run.case,
        run.optimizer,
        number,
        true,
      ])
      await training.update({ learning_rate: lr, max_grad_norm })
    }
  }
})

describe('a training', () => {
  test('draws noise from seed and step alone, the same with checkpointing', async () => {
    const noise = { dropout_rate: 0.2, expert_dropout_rate: 0.4, router_jitter_noise: 0.1, seed: 3 }
    const plain = await start('base', noise)
    const again = await start('base', { ...noise, gradient_checkpointing: true })
    const first = await plain.step(7)
    const second = await again.step(7)
    expect(second).toEqual(first)
    const gradients = await plain.gradients()
    for (const [name, gradient] of await again.gradients()) {
      expect(relative_error(gradient, gradients.get(name) as Tensor)).toBeLessThanOrEqual(1e-5)
    }
    expect((await plain.step(8)).loss).not.toBe(first.loss)
    expect((await (await start('base', { ...noise, seed: 4 })).step(7)).loss).not.toBe(first.loss)
    const { loss } = await plain.evaluate()
    expect(loss).toBeCloseTo((await (await start('base')).step()).loss, 5)
  })

  test('jitters what the router reads, not what the expert does', async () => {
    // One expert takes everything with weight 1, whatever its router reads.
    const still = await (await start('one-expert')).step()
    const jittered = await (await start('one-expert', { ...QUIET, router_jitter_noise: 0.9 })).step()
    expect(jittered.encoder_z_loss).not.toBeCloseTo(still.encoder_z_loss, 3)
    expect(jittered.cross_entropy).toBe(still.cross_entropy)
  })

  test('drops inside experts at a rate of their own', async () => {
    const still = (await (await start('base')).step()).cross_entropy
    const inside = { ...QUIET, expert_dropout_rate: 0.5 }
    expect((await (await start('base', inside)).step()).cross_entropy).not.toBeCloseTo(still, 4)
    expect((await (await start('base', inside)).evaluate()).cross_entropy).toBeCloseTo(still, 5)
  })

  test('adds the z-loss of logits by option', async () => {
    const coefficient = 1
    const plain = await (await start('base')).step()
    const training = await start('base', { ...QUIET, logits_z_loss_coef: coefficient })
    const { loss, logits_z_loss } = await training.step()
    expect(logits_z_loss).toBeGreaterThan(0)
    expect(loss).toBeCloseTo(plain.loss + coefficient * logits_z_loss, 3)
    for (let number = 1; number <= 10; number++) {
      await training.update({ learning_rate: 3e-3 })
      await training.step(number)
    }
    expect((await training.step()).logits_z_loss).toBeLessThan(logits_z_loss)
  })

  test('adds gradients up, scaled, until they are cleared', async () => {
    const training = await start('base')
    await training.step()
    const once = await training.gradients()
    await training.step(0, training.batch, 0.5)
    for (const [name, gradient] of await training.gradients()) {
      const { type, data, dims } = once.get(name) as Tensor<'float32'>
      const expected = new Tensor(
        type,
        data.map((value) => value * 1.5),
        dims,
      )
      expect(relative_error(gradient, expected)).toBeLessThanOrEqual(1e-5)
    }
    await training.clear()
    expect(Math.max(...(((await training.gradients()).get('shared.weight') as Tensor<'float32'>)?.data ?? [1]))).toBe(0)
  })

  test('generates with what it has learned', async () => {
    const training = await start('base')
    const before = (await training.evaluate()).loss
    for (let number = 0; number < 20; number++) {
      await training.step(number)
      await training.update({ learning_rate: 3e-3, max_grad_norm: 1 })
    }
    expect((await training.evaluate()).loss).toBeLessThan(before / 4)
    const { input_ids, attention_mask, labels } = Object.fromEntries(
      (await read_tensors(fixture('parity/base'), 'inputs.safetensors')).entries(),
    )
    const output = await training.model.forward({ input_ids, attention_mask, labels, output_router_logits: true })
    expect(Number(output.loss?.data[0])).toBeCloseTo((await training.evaluate()).loss, 4)
  })

  test.each([
    ['non_expert', (name: string) => !name.includes('.experts.')],
    ['expert', (name: string) => name.includes('.experts.')],
  ] as const)('trains %s parameters and leaves the others', async (trainable, learns) => {
    const training = await start('base', { ...QUIET, trainable })
    const before = await training.model.state_dict()
    await training.step()
    await training.update({ learning_rate: 1e-2 })
    const after = await training.model.state_dict()
    const changed = Object.keys(before).filter((name) => differs(before[name], after[name]))
    expect(changed.length).toBeGreaterThan(8)
    expect(changed.filter((name) => !learns(name))).toEqual([])
    expect((await training.gradients()).size).toBe(Object.keys(before).filter(learns).length)
  })

  test('freezes by pattern', async () => {
    const training = await start('base', { ...QUIET, frozen: ['*.router.*', 'shared.weight'] })
    const names = [...(await training.gradients()).keys()]
    expect(names.some((name) => name.includes('router') || name === 'shared.weight')).toBe(false)
    expect(names).toContain('encoder.final_layer_norm.weight')
  })

  test('learns adapters and merges them', async () => {
    const lora = { rank: 4, targets: ['q', 'v', 'wi', 'wo'] } satisfies TrainingOptions['lora']
    const training = await start('base', { ...QUIET, lora })
    const before = (await training.step()).loss
    const start_loss = Number((await read_tensors(fixture('parity/base'), 'expected.safetensors')).get('loss')?.data[0])
    expect(before).toBeCloseTo(start_loss, 4)
    const names = [...(await training.gradients()).keys()]
    expect(names.every((name) => /^base_model\.model\..*\.lora_[AB]\.weight$/.test(name))).toBe(true)
    for (let number = 0; number < 20; number++) {
      await training.step(number)
      await training.update({ learning_rate: 1e-2 })
    }
    const learned = (await training.evaluate()).loss
    expect(learned).toBeLessThan(before * 0.8)
    await training.merge()
    expect((await training.evaluate()).loss).toBe(learned)
  })

  test('in bfloat16 stays close to float32', async () => {
    const exact = await start('base')
    const rounded = await start('base', { ...QUIET, precision: 'bfloat16' })
    const { loss } = await exact.step()
    expect(Math.abs((await rounded.step()).loss - loss)).toBeLessThan(0.02 * loss)
  })

  test('refuses an update that is not finite and goes on', async () => {
    const training = await start('base')
    await training.step(0, training.batch, 3e38)
    const refused = await training.update({ learning_rate: 1e-3 })
    expect(refused).toMatchObject({ updated: false, updates: 0 })
    expect(refused.non_finite).toMatch(/weight$/)
    await training.step()
    expect(await training.update({ learning_rate: 1e-3 })).toMatchObject({
      updated: true,
      updates: 1,
      non_finite: null,
    })
  })

  test.each<[string, TrainingOptions, RegExp]>([
    ['a rate of 1', { dropout_rate: 1 }, /dropout_rate/],
    ['a negative coefficient', { router_z_loss_coef: -1 }, /router_z_loss_coef/],
    ['no parameters', { frozen: ['*'] }, /no parameter is trained/],
    ['an unknown target', { lora: { rank: 2, targets: ['x' as 'q'] } }, /lora\.targets/],
    ['a rank of 0', { lora: { rank: 0 } }, /lora\.rank/],
    ['an unknown option', { learning_rate: 1 } as TrainingOptions, /learning_rate/],
    ['an unknown optimiser', { optimizer: { type: 'sgd' as 'adamw' } }, /sgd/],
    [
      'warm-up without relative steps',
      { optimizer: { type: 'adafactor', warmup_init: true, relative_step: false } },
      /warmup_init/,
    ],
  ])('refuses %s', async (_, options, message) => {
    await expect(start('base', options)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringMatching(message),
    })
  })
})

function differs(a: Tensor | undefined, b: Tensor | undefined): boolean {
  return !a || !b || a.data.some((value, i) => value !== b.data[i])
}

/**
 * Load balancing: from a start where 90 % of the encoder's tokens go to one expert of a layer, with the balancing loss and
 * without it. Reported per layer: the standard deviation of the experts' loads by their mean, over the last 20 steps.
 *
 *   node benches/training/balance.mjs [--steps 300] [--json]
 *
 * The start: one number of every token's embedding is made large and equal for all, so that the layer's input has a part
 * that all tokens share, and expert 0's row of the router is given as much of it as makes 90 % of the tokens choose it.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  make_tokenizer,
  SwitchTransformersForConditionalGeneration,
  Trainer,
  training_config,
} from 'switch-transformers'
import { generator } from './pairs.mjs'

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '300' },
    coefficient: { type: 'string', default: '0.01' },
    json: { type: 'boolean' },
    report: { type: 'string' },
  },
})
const steps = Number(values.steps)
const WINDOW = 20
const SHARE = 0.9

const folder = mkdtempSync(join(tmpdir(), 'balance-'))
// Sequences of 32 words of 256, each as frequent as any other: nothing but the router decides about the load.
const random = generator(1)
const words = Array.from({ length: 256 }, (_, i) => String.fromCodePoint(0x4e00 + i))
const pairs = Array.from({ length: 4000 }, () => {
  const text = Array.from({ length: 32 }, () => words[Math.floor(random() * words.length)])
  return { source: text.join(''), target: text.slice(0, 8).reverse().join('') }
})
const tokenizer = await make_tokenizer(words, { type: 'pattern', pattern: '.', model_max_length: 64 })
const config = training_config('tiny', tokenizer.len)
const load = () => SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend: 'native' })

/** Changes float32 values of one tensor of the saved file in place. */
function change(name, edit) {
  const path = join(folder, 'model.safetensors')
  const bytes = readFileSync(path)
  const length = Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString())
  const { shape, data_offsets } = header[name]
  const at = 8 + length + data_offsets[0]
  const count = (data_offsets[1] - data_offsets[0]) / 4
  const floats = Float32Array.from({ length: count }, (_, i) => bytes.readFloatLE(at + 4 * i))
  edit(floats, shape)
  floats.forEach((value, i) => {
    bytes.writeFloatLE(value, at + 4 * i)
  })
  writeFileSync(path, bytes)
}

/** The part of tokens that choose expert 0, per sparse layer of the encoder. */
async function shares() {
  const model = await load()
  const texts = pairs.slice(0, 128).map(({ source }) => source)
  const inputs = tokenizer(texts, { padding: true })
  const output = await model({ ...inputs, decoder_input_ids: texts.map(() => [0]), output_routes: true })
  const mask = inputs.attention_mask.data
  const found = output.encoder_routes.map((routes) => {
    const chosen = Array.from(routes.data).filter((_, i) => mask[i] === 1n)
    return chosen.filter((expert) => Number(expert) === 0).length / chosen.length
  })
  await model.dispose()
  return found
}

async function make_start() {
  const model = await SwitchTransformersForConditionalGeneration.from_config(config, {
    seed: 1,
    // The paper's: the reference's is ten times as large, and its router so sure that no gradient moves it.
    initializer: 'paper',
    backend: 'native',
  })
  await model.save_pretrained(folder, { dtype: 'float32' })
  const names = Object.keys(await model.state_dict()).filter((name) =>
    /^encoder.*router\.classifier\.weight$/.test(name),
  )
  await model.dispose()
  change('shared.weight', (values, [rows, width]) => {
    const scale = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length)
    for (let row = 0; row < rows; row++) values[row * width] = 8 * scale
  })
  // One layer after another: what a layer gets depends on those before it.
  for (const [layer, name] of names.entries()) {
    let [low, high] = [0, 256]
    const original = new Float32Array(config.d_model * config.num_experts)
    change(name, (values) => original.set(values))
    const add = (amount) =>
      change(name, (values) => {
        values.set(original)
        values[0] += amount
      })
    for (let round = 0; round < 14; round++) {
      const middle = (low + high) / 2
      add(middle)
      if ((await shares())[layer] < SHARE) low = middle
      else high = middle
    }
    add(high)
  }
  return shares()
}

async function train(router_aux_loss_coef) {
  const model = await load()
  const entries = []
  const out = values.report === undefined ? null : `${values.report}_${router_aux_loss_coef}`
  const trainer = new Trainer({
    model,
    tokenizer,
    train_dataset: pairs,
    args: {
      max_steps: steps,
      per_device_train_batch_size: 32,
      learning_rate: 1e-3,
      lr_scheduler_type: 'constant_with_warmup',
      warmup_steps: 20,
      router_aux_loss_coef,
      logging_steps: WINDOW,
      seed: 1,
      ...(out !== null && { output_dir: out, save_strategy: 'no', report: true }),
    },
    callbacks: [{ on_log: (entry) => void entries.push(entry) }],
  })
  await trainer.train()
  await trainer.dispose()
  await model.dispose()
  return entries.map(({ step, loss, layers }) => ({
    step,
    loss,
    variation: layers.filter(({ stack }) => stack === 'encoder').map(({ load: of }) => variation(of)),
    first_expert: layers
      .filter(({ stack }) => stack === 'encoder')
      .map(({ load: of }) => of[0] / of.reduce((a, b) => a + b)),
  }))
}

function variation(load) {
  const mean = load.reduce((a, b) => a + b) / load.length
  return Math.sqrt(load.reduce((sum, tokens) => sum + (tokens - mean) ** 2, 0) / load.length) / mean
}

try {
  const start = await make_start()
  const runs = { with_loss: await train(Number(values.coefficient)), without_loss: await train(0) }
  const result = {
    steps,
    start_share_of_first_expert: start,
    with_loss: runs.with_loss.at(-1),
    without_loss: runs.without_loss.at(-1),
  }
  console.log(values.json ? JSON.stringify({ ...result, runs }) : JSON.stringify(result, null, 2))
} finally {
  rmSync(folder, { recursive: true, force: true })
}

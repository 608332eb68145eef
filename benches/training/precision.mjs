/**
 * The losses of a training in bfloat16 beside those in float32, from the same start over the same batches: with selective
 * precision (float32 router) and without.
 *
 *   node benches/training/precision.mjs [--steps 500] [--json]
 *
 * Compared are means over 25 steps; a batch's own loss is noisy. The difference is given as a part of float32's. And what a
 * router in bfloat16 decides otherwise, of the model that float32 trained: the part of tokens that go to another expert.
 */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import {
  make_tokenizer,
  SwitchTransformersConfig,
  SwitchTransformersForConditionalGeneration,
  Trainer,
  training_config,
} from 'switch-transformers'
import { load_pairs, TOKENIZER } from './pairs.mjs'

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '500' },
    'batch-size': { type: 'string', default: '32' },
    config: { type: 'string', default: 'small' },
    json: { type: 'boolean' },
  },
})
const WINDOW = 25
const folder = mkdtempSync(join(tmpdir(), 'precision-'))

const pairs = await load_pairs(16_000)
const tokenizer = await make_tokenizer(
  pairs.flatMap(({ source, target }) => [source, target]),
  TOKENIZER,
)

async function losses(args, keep = false) {
  const model = await SwitchTransformersForConditionalGeneration.from_config(
    training_config(values.config, tokenizer.len),
    {
      seed: 1,
      backend: 'native',
    },
  )
  const found = []
  const trainer = new Trainer({
    model,
    tokenizer,
    train_dataset: pairs,
    args: {
      max_steps: Number(values.steps),
      per_device_train_batch_size: Number(values['batch-size']),
      train_sampling_strategy: 'group_by_length',
      learning_rate: 1e-3,
      lr_scheduler_type: 'cosine',
      warmup_steps: 0.1,
      seed: 1,
      ...args,
    },
    callbacks: [{ on_step: ({ loss }) => void found.push(loss) }],
  })
  await trainer.train()
  await trainer.dispose()
  if (keep) await model.save_pretrained(folder, { dtype: 'float32' })
  await model.dispose()
  return found
}

/** The expert of every token in every sparse layer of the encoder; of padding none. */
async function routes(router_dtype) {
  const config = { ...(await SwitchTransformersConfig.from_pretrained(folder)).to_dict(), router_dtype }
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend: 'native', config })
  const inputs = tokenizer(
    pairs.slice(0, 512).map(({ source }) => source),
    { padding: true },
  )
  const rows = inputs.input_ids.dims[0]
  const output = await model({ ...inputs, decoder_input_ids: Array(rows).fill([0]), output_routes: true })
  await model.dispose()
  return output.encoder_routes.map(({ data }) =>
    Array.from(data, Number).filter((_, i) => inputs.attention_mask.data[i]),
  )
}

const means = (list) =>
  Array.from({ length: Math.floor(list.length / WINDOW) }, (_, i) => {
    const part = list.slice(i * WINDOW, (i + 1) * WINDOW)
    return part.reduce((a, b) => a + b) / part.length
  })

const curves = {
  float32: means(await losses({}, true)),
  selective: means(await losses({ bf16: true })),
  everything: means(await losses({ bf16: true, selective_precision: false })),
}
const differences = (curve) => curve.map((loss, i) => Math.abs(loss - curves.float32[i]) / curves.float32[i])
const summary = (curve) => {
  const all = differences(curve)
  return { largest: Math.max(...all), mean: all.reduce((a, b) => a + b) / all.length, last: all.at(-1) }
}
const [exact, rounded] = [await routes('float32'), await routes('bfloat16')]
const moved = exact.map((layer, at) => layer.filter((expert, i) => expert !== rounded[at][i]).length / layer.length)
rmSync(folder, { recursive: true, force: true })
const result = {
  steps: Number(values.steps),
  selective_precision: summary(curves.selective),
  without_it: summary(curves.everything),
  /** Per sparse layer of the encoder. */
  sent_elsewhere_by_a_router_in_bfloat16: moved,
  last_losses: Object.fromEntries(Object.entries(curves).map(([name, curve]) => [name, curve.at(-1)])),
}
console.log(values.json ? JSON.stringify({ ...result, curves }) : JSON.stringify(result, null, 2))

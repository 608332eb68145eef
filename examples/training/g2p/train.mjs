/**
 * The embedded model from nothing: English spelling to pronunciation, 5.5 M parameters.
 *
 *   npm install cmu-pronouncing-dictionary@3.0.0
 *   node examples/training/g2p/train.mjs --out my-g2p --epochs 12
 *
 * The recipe: AdamW with beta2 0.98 and weight decay 0.01, 1000 steps of warm-up to 1.5e-3 and a cosine down to a
 * hundredth of it, label smoothing 0.1, gradients clipped at 1, batches of 256 words of like length.
 */

import { parseArgs } from 'node:util'
import {
  make_tokenizer,
  read_examples,
  SwitchTransformersForConditionalGeneration,
  Trainer,
  training_config,
} from 'switch-transformers'
import { load_dictionary } from './data.mjs'

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: 'my-g2p' },
    epochs: { type: 'string', default: '12' },
    'max-steps': { type: 'string' },
    'batch-size': { type: 'string', default: '256' },
    'warmup-steps': { type: 'string', default: '1000' },
    'save-steps': { type: 'string', default: '500' },
    config: { type: 'string', default: 'small' },
    /** A table of one's own in place of the dictionary: word, tab, phonemes. */
    data: { type: 'string' },
    /** Held-back words at the end. Default: all. */
    'test-words': { type: 'string' },
    bf16: { type: 'boolean', default: false },
    resume: { type: 'boolean', default: false },
  },
})

async function load_data() {
  if (values.data === undefined) return load_dictionary()
  const train = []
  for await (const { source, target } of read_examples(values.data)) train.push({ source, target })
  return { train, validation: train.slice(0, 100), test: train.slice(0, 100) }
}

/** From 0 at the first step, as the recipe counts from 1: up to 1, then half a cosine, never below a hundredth. */
function schedule(step, { total_steps, warmup_steps }) {
  const done = Math.min(1, Math.max(0, step + 1 - warmup_steps) / Math.max(1, total_steps - warmup_steps))
  return Math.min((step + 1) / warmup_steps, 0.5 * (1 + Math.cos(Math.PI * done)) + 0.01)
}

const { train, validation, test } = await load_data()
const texts = train.flatMap(({ source, target }) => [source, target])
// One token per letter, and one per phoneme with its stress: AH0, T.
const tokenizer = await make_tokenizer(texts, {
  type: 'pattern',
  pattern: '[A-Z]+[0-9]?|[^A-Z]',
  model_max_length: 64,
})
const model = await SwitchTransformersForConditionalGeneration.from_config(
  training_config(values.config, tokenizer.len),
  { seed: 0, backend: 'native' },
)
model.generation_config.max_new_tokens = 40

const trainer = new Trainer({
  model,
  tokenizer,
  train_dataset: train,
  eval_dataset: validation,
  args: {
    output_dir: values.out,
    num_train_epochs: Number(values.epochs),
    max_steps: values['max-steps'] === undefined ? -1 : Number(values['max-steps']),
    per_device_train_batch_size: Number(values['batch-size']),
    per_device_eval_batch_size: 256,
    train_sampling_strategy: 'group_by_length',
    learning_rate: 1.5e-3,
    lr_scheduler_type: schedule,
    warmup_steps: Number(values['warmup-steps']),
    adam_beta2: 0.98,
    weight_decay: 0.01,
    // Of every parameter, norms included, as the embedded model was trained.
    parameter_groups: [{ patterns: ['*'] }],
    label_smoothing_factor: 0.1,
    bf16: values.bf16,
    seed: 0,
    logging_steps: 20,
    save_steps: Number(values['save-steps']),
    save_total_limit: 2,
    eval_strategy: 'epoch',
    predict_with_generate: true,
    // Words of phonemes: the phoneme error rate; and words that are right.
    metrics: ['word_error_rate', 'exact_match'],
    report: true,
  },
  callbacks: [
    {
      on_log: ({ step, loss, tokens_per_second }, { state }) =>
        console.log(`step ${step} of ${state.max_steps}: loss ${loss.toFixed(4)}, ${tokens_per_second} tokens/s`),
      on_evaluate: ({ eval_word_error_rate, eval_exact_match }, { state }) =>
        console.log(
          `step ${state.global_step}: phoneme error rate ${eval_word_error_rate.toFixed(4)}, words right ${eval_exact_match.toFixed(4)}`,
        ),
    },
  ],
})

await trainer.train({ resume_from_checkpoint: values.resume })
const held_back = test.slice(0, values['test-words'] === undefined ? test.length : Number(values['test-words']))
const { metrics } = await trainer.predict(held_back)
await trainer.save_model(values.out, { dtype: 'float16' })
console.log(
  `held-back words: phoneme error rate ${metrics.test_word_error_rate.toFixed(4)}, words right ${metrics.test_exact_match.toFixed(4)}`,
)
await trainer.dispose()
await model.dispose()

/**
 * Translation, as the reference's task guide does it: a prefix that says from what into what, BLEU and chrF.
 *
 *   node examples/training/translation.mjs --model google/switch-base-8 --data pairs.tsv --from en --to fr --out en-fr
 *
 * `--data`: TSV or CSV with a column for each language, or JSON lines with `translation.en` and the like. Without
 * `--model` a new small model learns the few phrases that are here, into German.
 */

import { fileURLToPath } from 'node:url'
import { read_examples, Trainer } from 'switch-transformers'
import { flags, open_model, print_progress, show_examples } from './common.mjs'

const LANGUAGES = { de: 'German', en: 'English', es: 'Spanish', fr: 'French', it: 'Italian' }
const values = flags({
  data: fileURLToPath(new URL('data/translations.tsv', import.meta.url)),
  from: 'en',
  to: 'de',
  out: 'translation',
})
const { from, to } = values
const prefix = `translate ${LANGUAGES[from] ?? from} to ${LANGUAGES[to] ?? to}: `

const inside = values.data.endsWith('.jsonl') ? 'translation.' : ''
const columns = { source_column: inside + from, target_column: inside + to }
const examples = []
for await (const example of read_examples(values.data, columns)) examples.push(example)
const held_back = examples.length < 50 ? examples : examples.filter((_, i) => i % 10 === 0)
const train = examples.length < 50 ? examples : examples.filter((_, i) => i % 10 !== 0)

const texts = examples.flatMap(({ source, target }) => [prefix + source, target])
const { model, tokenizer } = await open_model(values, texts, { type: 'word', vocab_size: 4000 })

const trainer = new Trainer({
  model,
  tokenizer,
  train_dataset: train,
  eval_dataset: held_back,
  args: {
    output_dir: values.out,
    source_prefix: prefix,
    learning_rate: values.model === '' ? 2e-3 : 2e-5,
    label_smoothing_factor: 0.1,
    per_device_train_batch_size: 16,
    train_sampling_strategy: 'group_by_length',
    max_steps: Number(values.steps),
    eval_strategy: 'steps',
    eval_steps: Math.max(1, Math.floor(Number(values.steps) / 4)),
    predict_with_generate: true,
    metrics: ['bleu', 'chrf'],
    generation_config: { max_new_tokens: 40 },
    save_strategy: 'best',
    metric_for_best_model: 'chrf',
    save_total_limit: 1,
    logging_steps: 10,
  },
  callbacks: [print_progress],
})
await trainer.train()
show_examples(await trainer.predict(held_back.slice(0, 3)))
await trainer.save_model(values.out)
await trainer.dispose()
await model.dispose()

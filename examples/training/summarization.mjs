/**
 * Summarisation, as the reference's task guide does it: a prefix, ROUGE, the best checkpoint in the end.
 *
 *   node examples/training/summarization.mjs --model google/switch-base-8 --data articles.jsonl --out summaries
 *
 * `--data`: JSON lines with `document` and `summary`. Without `--model` a new small model learns the few that are here.
 */

import { fileURLToPath } from 'node:url'
import { read_examples, Trainer } from 'switch-transformers'
import { flags, open_model, print_progress, show_examples } from './common.mjs'

const values = flags({ data: fileURLToPath(new URL('data/summaries.jsonl', import.meta.url)), out: 'summaries' })

const examples = []
for await (const example of read_examples(values.data)) examples.push(example)
// One in ten is held back; of a few, all are learned and looked at.
const held_back = examples.length < 50 ? examples : examples.filter((_, i) => i % 10 === 0)
const train = examples.length < 50 ? examples : examples.filter((_, i) => i % 10 !== 0)

const texts = examples.flatMap(({ source, target }) => [`summarize: ${source}`, target])
const { model, tokenizer } = await open_model(values, texts, { type: 'word', vocab_size: 4000 })

const trainer = new Trainer({
  model,
  tokenizer,
  train_dataset: train,
  eval_dataset: held_back,
  args: {
    output_dir: values.out,
    source_prefix: 'summarize: ',
    max_source_length: 512,
    max_target_length: 128,
    learning_rate: values.model === '' ? 2e-3 : 2e-5,
    weight_decay: 0.01,
    per_device_train_batch_size: 8,
    per_device_eval_batch_size: 8,
    // The paper fine-tunes with more dropout inside the experts than elsewhere.
    dropout_rate: 0.1,
    expert_dropout_rate: 0.4,
    max_steps: Number(values.steps),
    eval_strategy: 'steps',
    eval_steps: Math.max(1, Math.floor(Number(values.steps) / 4)),
    save_steps: Math.max(1, Math.floor(Number(values.steps) / 4)),
    save_total_limit: 2,
    load_best_model_at_end: true,
    metric_for_best_model: 'rougeL',
    predict_with_generate: true,
    metrics: ['rouge1', 'rouge2', 'rougeL', 'rougeLsum'],
    generation_config: { max_new_tokens: 64, num_beams: 2 },
    logging_steps: 10,
    report: true,
  },
  callbacks: [print_progress],
})
await trainer.train()
show_examples(await trainer.predict(held_back.slice(0, 3)))
await trainer.save_model(values.out)
await trainer.dispose()
await model.dispose()

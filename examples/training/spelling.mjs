/**
 * Spelling correction by characters, from words alone: the mistakes are made here, anew in every epoch.
 *
 *   node examples/training/spelling.mjs --data words.txt --steps 5000 --out speller
 *
 * `--data`: one word per line.
 */

import { read_examples, Trainer } from 'switch-transformers'
import { flags, open_model, print_progress, show_examples } from './common.mjs'

const values = flags({ data: '', out: 'speller' })

const WORDS =
  'because friend separate definitely beginning believe calendar cemetery colleague conscience disappear embarrass environment existence foreign forty government grammar guarantee happened harass height immediately independent island knowledge library necessary neighbour noticeable occasion occurred parliament perseverance possession privilege questionnaire receive recommend referred rhythm sense successful surprise tomorrow truly until weird which'.split(
    ' ',
  )

const words = []
if (values.data === '') words.push(...WORDS)
else for await (const { source } of read_examples(values.data, { format: 'text' })) words.push(source)

/** A generator that begins at its seed (mulberry32), so that a training can be repeated. */
function generator(seed) {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A mistake: a letter left out, doubled, replaced, or swapped with the next. */
function misspell(word, random) {
  const at = Math.floor(random() * (word.length - 1))
  const letter = 'aeioubcdfglmnprst'[Math.floor(random() * 17)]
  switch (Math.floor(random() * 4)) {
    case 0:
      return word.slice(0, at) + word.slice(at + 1)
    case 1:
      return word.slice(0, at + 1) + word.slice(at)
    case 2:
      return word.slice(0, at) + letter + word.slice(at + 1)
    default:
      return word.slice(0, at) + word[at + 1] + word[at] + word.slice(at + 2)
  }
}

let epoch = 0
/** Called once per epoch: other mistakes each time. */
function* mistakes() {
  const random = generator(++epoch)
  for (const word of words) {
    yield { source: misspell(word, random), target: word }
    // Right words are to stay as they are.
    if (random() < 0.2) yield { source: word, target: word }
  }
}

const alphabet = ['abcdefghijklmnopqrstuvwxyz', ...words]
const { model, tokenizer } = await open_model(values, alphabet, { type: 'char' })
const random = generator(12345)
const unseen = words.map((word) => ({ source: misspell(word, random), target: word }))

const trainer = new Trainer({
  model,
  tokenizer,
  train_dataset: mistakes,
  eval_dataset: unseen,
  args: {
    // Read anew in every epoch instead of being kept.
    streaming: true,
    shuffle_buffer_size: 1024,
    train_sampling_strategy: 'group_by_length',
    max_steps: Number(values.steps),
    per_device_train_batch_size: 32,
    learning_rate: 2e-3,
    lr_scheduler_type: 'cosine',
    warmup_steps: 0.1,
    eval_steps: Math.max(1, Math.floor(Number(values.steps) / 4)),
    predict_with_generate: true,
    metrics: ['exact_match', 'edit_distance'],
    logging_steps: 10,
  },
  callbacks: [print_progress],
})
await trainer.train()
show_examples(await trainer.predict(unseen.slice(0, 5)), 5)
await trainer.save_model(values.out)
await trainer.dispose()
await model.dispose()

/**
 * From a sparse model to a dense one (Switch Transformers, section 4.2): the student takes over what is no expert, and
 * learns from 0.75 of the labels and 0.25 of the teacher's predictions.
 *
 *   node examples/training/distillation.mjs --teacher my-g2p --data words.tsv --steps 5000 --out my-dense-g2p
 *
 * `--teacher`: default the embedded model (spelling to phonemes). `--data`: pairs; default a few words, with what the
 * teacher itself answers.
 */

import {
  AutoTokenizer,
  embedded_model_path,
  make_student,
  read_examples,
  SwitchTransformersForConditionalGeneration,
  Trainer,
} from 'switch-transformers'
import { flags, print_progress, show_examples } from './common.mjs'

const values = flags({ teacher: embedded_model_path(), data: '', out: 'dense' })

const WORDS =
  'apple bread cloud dream eagle flame grape house island jungle kitten lemon mountain night ocean paper queen river silver tiger under valley window yellow zebra'.split(
    ' ',
  )

const tokenizer = await AutoTokenizer.from_pretrained(values.teacher)
const teacher = await SwitchTransformersForConditionalGeneration.from_pretrained(values.teacher)
const { model: student, copied } = await make_student(teacher)
console.log(
  `teacher: ${teacher.num_parameters()} parameters; student: ${student.num_parameters()}, of which ${copied.length} tensors are the teacher's`,
)

const pairs = []
if (values.data === '') {
  const ids = await teacher.generate({ ...tokenizer(WORDS, { padding: true }), max_new_tokens: 40 })
  const answers = tokenizer.batch_decode(ids, { skip_special_tokens: true })
  pairs.push(...WORDS.map((source, i) => ({ source, target: answers[i] })))
} else {
  for await (const { source, target } of read_examples(values.data)) pairs.push({ source, target })
}

const trainer = new Trainer({
  model: student,
  tokenizer,
  teacher,
  train_dataset: pairs,
  eval_dataset: pairs.slice(0, 500),
  args: {
    soft_label_weight: 0.25,
    max_steps: Number(values.steps),
    per_device_train_batch_size: 32,
    train_sampling_strategy: 'group_by_length',
    learning_rate: 1e-3,
    lr_scheduler_type: 'cosine',
    warmup_steps: 0.05,
    eval_steps: Math.max(1, Math.floor(Number(values.steps) / 4)),
    predict_with_generate: true,
    metrics: ['exact_match', 'word_error_rate'],
    logging_steps: 10,
  },
  callbacks: [print_progress],
})
await trainer.train()
show_examples(await trainer.predict(pairs.slice(0, 5)), 5)
await trainer.save_model(values.out)
await trainer.dispose()
await student.dispose()
await teacher.dispose()

/** `switch-transformers train`: from a table of pairs to a model's folder. */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { type Command, Option } from 'commander'
import {
  AutoTokenizer,
  type ExampleReader,
  make_tokenizer,
  type PreTrainedTokenizer,
  read_examples,
  SwitchTransformersForConditionalGeneration,
  Trainer,
  type TrainerCallback,
  type TrainingArguments,
  training_config,
} from '../../entry/node.js'
import { AbortError } from '../../errors.js'
import { parse_json } from '../../utils/repository.js'
import { UsageError } from '../exit.js'
import {
  add_backend_flags,
  type BackendFlags,
  backend_options,
  type HubFlags,
  hub_flags,
  hub_options,
  integer_value,
} from '../flags.js'
import { show_count } from '../format.js'
import type { Terminal } from '../terminal.js'
import { download_progress } from './download.js'
import { add_training_flags, training_flags } from './training_flags.js'
import { training_progress } from './training_progress.js'

interface TrainFlags extends BackendFlags, HubFlags {
  data: string
  evalData?: string
  format?: 'tsv' | 'csv' | 'jsonl' | 'text'
  out: string
  model?: string
  config?: string
  tokenizer?: string
  tokenizerType: 'char' | 'word' | 'pattern'
  tokenizerPattern?: string
  vocabSize: number
  saveDtype: 'float32' | 'bfloat16' | 'float16'
  keepAdapters?: boolean
  resume?: boolean
  force?: boolean
  report?: boolean
  json?: boolean
}

/** How long an interrupted training may take to write its checkpoint. */
const PATIENCE_MS = 120_000

/** For a model that begins from nothing; one that is fine-tuned takes the reference's. */
const FROM_NOTHING: TrainingArguments = {
  learning_rate: 1e-3,
  per_device_train_batch_size: 32,
  lr_scheduler_type: 'cosine',
  warmup_steps: 0.05,
}

export function add_train(program: Command, terminal: Terminal): void {
  const command = program
    .command('train')
    .description('train or fine-tune a model on a table of pairs; the folder then loads everywhere')
    .requiredOption(
      '--data <file>',
      'pairs: TSV, CSV or JSON lines; or lines of text, with --objective span_corruption',
    )
    .requiredOption('--out <folder>', 'where model, checkpoints and log go')
    .option('--eval-data <file>', 'pairs that are evaluated, after every epoch unless --eval-steps says otherwise')
    .addOption(
      new Option('--format <name>', 'of the data (default: by the ending)').choices(['tsv', 'csv', 'jsonl', 'text']),
    )
    .option('-m, --model <name>', 'hub name or folder of the model to fine-tune')
    .option(
      '--config <name>',
      'instead of --model: a new model, of tiny, small, medium, a published size or a config.json (default: small)',
    )
    .option('--tokenizer <name>', "hub name or folder (default: the model's, or one made from the data)")
    .addOption(
      new Option('--tokenizer-type <name>', 'of a tokenizer made from the data')
        .choices(['char', 'word', 'pattern'])
        .default('char'),
    )
    .option('--tokenizer-pattern <regex>', 'one token per match, for --tokenizer-type pattern')
    .option('--vocab-size <integer>', 'largest vocabulary of a tokenizer made from the data', integer_value, 8192)
    .addOption(
      new Option('--save-dtype <name>', 'what the finished weights are stored as')
        .choices(['float32', 'bfloat16', 'float16'])
        .default('float32'),
    )
    .option('--keep-adapters', 'with --lora: write the adapters alone instead of merging them')
    .option('--resume', 'go on from the newest checkpoint in --out')
    .option('--force', 'begin anew in a folder that holds something')
    .option('--report', 'write report.html with curves and the load of experts')
    .option('--json', 'print the result as JSON')
  add_training_flags(hub_flags(add_backend_flags(command)))
  command.action((flags: TrainFlags) => train(flags, command, terminal))
}

async function train(flags: TrainFlags, command: Command, terminal: Terminal): Promise<void> {
  if (flags.model !== undefined && flags.config !== undefined) throw new UsageError('give one of --model and --config.')
  check_folder(flags)
  const given = training_flags(command)
  const args: TrainingArguments = {
    ...(flags.model === undefined && from_nothing(given)),
    train_sampling_strategy: 'group_by_length',
    ...(flags.evalData !== undefined && given.eval_steps === undefined && { eval_strategy: 'epoch' }),
    ...given,
    output_dir: flags.out,
    report: flags.report === true,
  }
  const read = (file: string): ExampleReader =>
    read_examples(file, {
      ...(flags.format !== undefined && { format: flags.format }),
      source_column: args.source_column ?? null,
      target_column: args.target_column ?? null,
      texts_only: args.objective === 'span_corruption',
      on_bad_row: args.on_bad_row ?? 'error',
    })
  const data = read(flags.data)
  const progress = terminal.progress('train')
  terminal.be_patient(PATIENCE_MS)
  try {
    const tokenizer = await open_tokenizer(flags, args, data, terminal)
    const model = await open_model(flags, args, tokenizer, terminal)
    try {
      const trainer = new Trainer({
        model,
        tokenizer,
        args,
        train_dataset: data,
        ...(flags.evalData !== undefined && { eval_dataset: read(flags.evalData) }),
        callbacks: [training_progress(progress, terminal), skipped_rows(data, terminal)],
      })
      const result = await trainer.train({ resume_from_checkpoint: flags.resume === true, signal: terminal.signal })
      progress.stop()
      if (args.lora !== undefined && args.lora !== null && !flags.keepAdapters) await trainer.merge_adapters()
      await trainer.save_model(flags.out, { dtype: flags.saveDtype })
      const parameters = model.num_parameters()
      terminal.print(
        flags.json
          ? `${JSON.stringify({ folder: flags.out, parameters, ...result })}\n`
          : `${flags.out}: ${show_count(parameters)} parameters, ${result.global_step} steps, mean loss ${Number(result.training_loss.toPrecision(4))}\n`,
      )
      await trainer.dispose()
    } finally {
      await model.dispose()
    }
  } catch (error) {
    progress.stop()
    if (error instanceof AbortError)
      terminal.note(`${error.message}${existsSync(flags.out) ? ' Add --resume to go on.' : ''}\n`)
    throw error
  } finally {
    progress.stop()
  }
}

function check_folder({ out, resume, force }: TrainFlags): void {
  if (!existsSync(out)) return
  let entries: string[]
  try {
    entries = readdirSync(out)
  } catch {
    throw new UsageError(`${path.resolve(out)} is not a folder.`)
  }
  if (entries.length === 0 || resume === true || force === true) return
  throw new UsageError(
    entries.some((name) => name.startsWith('checkpoint-'))
      ? `${out} holds a training already. Add --resume to go on with it, or --force to begin anew.`
      : `${out} is not empty. Name another folder, or add --force.`,
  )
}

async function open_tokenizer(
  flags: TrainFlags,
  args: TrainingArguments,
  data: ExampleReader,
  terminal: Terminal,
): Promise<PreTrainedTokenizer> {
  const options = { ...hub_options(flags), signal: terminal.signal }
  const name = flags.tokenizer ?? flags.model
  if (name !== undefined) return AutoTokenizer.from_pretrained(name, options)
  // The one that the training was begun with.
  if (flags.resume && existsSync(path.join(flags.out, 'tokenizer.json'))) {
    return AutoTokenizer.from_pretrained(path.resolve(flags.out), options)
  }
  const texts = async function* () {
    for await (const { source, target } of data) {
      yield source
      if (target !== '') yield target
    }
  }
  const tokenizer = await make_tokenizer(texts(), {
    type: flags.tokenizerType,
    vocab_size: flags.vocabSize,
    ...(flags.tokenizerPattern !== undefined && { pattern: flags.tokenizerPattern }),
    ...(args.objective === 'span_corruption' && { sentinels: 100 }),
  })
  await tokenizer.save_pretrained(flags.out)
  return tokenizer
}

async function open_model(
  flags: TrainFlags,
  args: TrainingArguments,
  tokenizer: PreTrainedTokenizer,
  terminal: Terminal,
): Promise<SwitchTransformersForConditionalGeneration> {
  if (flags.model !== undefined) {
    const progress = terminal.progress('load')
    try {
      return await SwitchTransformersForConditionalGeneration.from_pretrained(flags.model, {
        ...hub_options(flags),
        ...backend_options(flags),
        signal: terminal.signal,
        progress_callback: download_progress(progress),
      })
    } finally {
      progress.stop()
    }
  }
  const name = flags.config ?? 'small'
  const config = existsSync(name)
    ? (parse_json(readFileSync(name), name) as Record<string, unknown>)
    : training_config(name, tokenizer.len)
  return SwitchTransformersForConditionalGeneration.from_config(config, {
    ...backend_options(flags),
    dtype: 'float32',
    seed: args.seed ?? 42,
  })
}

/** Whoever chooses a schedule chooses its warm-up too. */
function from_nothing(given: TrainingArguments): TrainingArguments {
  const { warmup_steps, ...rest } = FROM_NOTHING
  return given.lr_scheduler_type === undefined ? { ...rest, ...(warmup_steps !== undefined && { warmup_steps }) } : rest
}

/** Says once how many rows were left out. */
function skipped_rows(data: ExampleReader, terminal: Terminal): TrainerCallback {
  return {
    on_train_begin() {
      const { count, rows } = data.skipped
      if (count === 0) return
      terminal.note(
        `${count} ${count === 1 ? 'row was' : 'rows were'} left out, the first in line ${rows[0]?.line}: ${rows[0]?.reason}.\n`,
      )
    },
  }
}

/** `switch-transformers evaluate`: losses and metrics of a model on a table of pairs. */

import { type Command, Option } from 'commander'
import { AutoTokenizer, read_examples, SwitchTransformersForConditionalGeneration, Trainer } from '../../entry/node.js'
import { embedded_model_path } from '../../inspect/embedded.js'
import { argument_rules } from '../../training/argument_table.js'
import type { TrainingArguments } from '../../training/arguments.js'
import {
  add_backend_flags,
  type BackendFlags,
  backend_options,
  type HubFlags,
  hub_flags,
  hub_options,
} from '../flags.js'
import { table } from '../format.js'
import type { Terminal } from '../terminal.js'
import { download_progress } from './download.js'
import { add_training_flags, training_flags } from './training_flags.js'

interface EvaluateFlags extends BackendFlags, HubFlags {
  data: string
  model?: string
  format?: 'tsv' | 'csv' | 'jsonl'
  loss?: boolean
  json?: boolean
}

/** What an evaluation looks at. */
const USED: readonly (keyof TrainingArguments)[] = [
  'per_device_eval_batch_size',
  'max_source_length',
  'max_target_length',
  'source_column',
  'target_column',
  'source_prefix',
  'on_bad_row',
  'generation_max_length',
  'generation_num_beams',
  'generation_config',
  'metrics',
  'label_smoothing_factor',
]

export function add_evaluate(program: Command, terminal: Terminal): void {
  const command = program
    .command('evaluate')
    .description('losses and metrics of a model on a table of pairs')
    .requiredOption('--data <file>', 'pairs: TSV, CSV or JSON lines')
    .option('-m, --model <name>', 'hub name or folder; the embedded model (spelling to phonemes) when left out')
    .addOption(new Option('--format <name>', 'of the data (default: by the ending)').choices(['tsv', 'csv', 'jsonl']))
    .option('--no-generate', 'losses alone: nothing is generated')
    .option('--json', 'print JSON')
  const unused = Object.keys(argument_rules()).filter(
    (name) => !USED.includes(name as never),
  ) as (keyof TrainingArguments)[]
  add_training_flags(hub_flags(add_backend_flags(command)), unused)
  command.action(async (flags: EvaluateFlags & { generate: boolean }) => {
    const name = flags.model ?? embedded_model_path()
    const given = training_flags(command)
    const common = { ...hub_options(flags), signal: terminal.signal }
    const progress = terminal.progress('load')
    try {
      const tokenizer = await AutoTokenizer.from_pretrained(name, common)
      const model = await SwitchTransformersForConditionalGeneration.from_pretrained(name, {
        ...common,
        ...backend_options(flags),
        progress_callback: download_progress(progress),
      })
      progress.stop()
      try {
        const trainer = new Trainer({
          model,
          tokenizer,
          args: { ...given, predict_with_generate: flags.generate },
          eval_dataset: read_examples(flags.data, {
            ...(flags.format !== undefined && { format: flags.format }),
            source_column: given.source_column ?? null,
            target_column: given.target_column ?? null,
            on_bad_row: given.on_bad_row ?? 'error',
          }),
        })
        const metrics = await trainer.evaluate({ signal: terminal.signal })
        terminal.print(
          flags.json
            ? `${JSON.stringify(metrics)}\n`
            : table(Object.entries(metrics).map(([metric, value]) => [metric, String(Number(value.toPrecision(6)))])),
        )
        await trainer.dispose()
      } finally {
        await model.dispose()
      }
    } finally {
      progress.stop()
    }
  })
}

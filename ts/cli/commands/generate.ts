/** `switch-transformers generate`: text in, text out, one line each. */

import type { Command } from 'commander'
import {
  AutoTokenizer,
  type BatchEncoding,
  SwitchTransformersForConditionalGeneration,
  type Tensor,
} from '../../entry/node.js'
import { end_token_ids, until_end } from '../../generation/token_rows.js'
import { embedded_model_path } from '../../inspect/embedded.js'
import { type StackRoutes, type TokenRoutes, token_routes } from '../../inspect/token_routes.js'
import { UsageError } from '../exit.js'
import {
  add_backend_flags,
  type BackendFlags,
  backend_options,
  DTYPES,
  dtype_flag,
  type HubFlags,
  hub_flags,
  hub_options,
  integer_value,
} from '../flags.js'
import { printable, table } from '../format.js'
import type { Terminal } from '../terminal.js'
import { download_progress } from './download.js'
import { add_generation_flags, generation_options } from './generation_flags.js'

interface GenerateFlags extends BackendFlags, HubFlags {
  model?: string
  dtype?: (typeof DTYPES)[number]
  routes?: boolean
  json?: boolean
  batchSize: number
  [flag: string]: unknown
}

/** One result of one text. */
interface Output {
  text: string
  token_ids: number[]
  /** Beam search only. */
  score?: number
  routes?: TokenRoutes
}

type Tokenizer = Awaited<ReturnType<typeof AutoTokenizer.from_pretrained>>

export function add_generate(program: Command, terminal: Terminal): void {
  const command = program
    .command('generate')
    .description('generate text from text; one line of output per line of input')
    .argument('[texts...]', 'texts; the lines of standard input when left out')
    .option('-m, --model <name>', 'hub name or folder; the embedded model (spelling to phonemes) when left out')
    .option('--routes', 'show which expert took each token at each sparse layer')
    .option('--json', 'print one JSON object per text')
    .option('--batch-size <integer>', 'texts that are generated together', integer_value, 32)
    .addOption(dtype_flag(undefined, DTYPES))
  add_generation_flags(hub_flags(add_backend_flags(command)))
  command.action(async (texts: string[], flags: GenerateFlags) => {
    const lines = texts.length > 0 ? texts : terminal.read_lines()
    if (lines === null) throw new UsageError('give a text, or pipe lines in.')
    if (flags.batchSize < 1) throw new UsageError('--batch-size must be at least 1.')
    const options = generation_options(flags)
    const name = flags.model ?? embedded_model_path()
    const progress = terminal.progress('load')
    const common = { ...hub_options(flags), signal: terminal.signal }
    try {
      const tokenizer = await AutoTokenizer.from_pretrained(name, common)
      const model = await SwitchTransformersForConditionalGeneration.from_pretrained(name, {
        ...common,
        ...backend_options(flags),
        ...(flags.dtype !== undefined && { dtype: flags.dtype }),
        progress_callback: download_progress(progress),
      })
      progress.stop()
      try {
        for await (const batch of in_batches(lines, flags.batchSize)) {
          const results = await generate_batch(model, tokenizer, batch, options, flags.routes === true, terminal.signal)
          for (const [i, outputs] of results.entries()) {
            const text = batch[i] as string
            terminal.print(flags.json ? `${JSON.stringify({ text, outputs })}\n` : format_outputs(outputs, tokenizer))
          }
        }
      } finally {
        await model.dispose()
      }
    } finally {
      progress.stop()
    }
  })
}

async function generate_batch(
  model: SwitchTransformersForConditionalGeneration,
  tokenizer: Tokenizer,
  texts: string[],
  options: Record<string, unknown>,
  with_routes: boolean,
  signal: AbortSignal,
): Promise<Output[][]> {
  const inputs = tokenizer(texts, { padding: true, truncation: true })
  const { sequences, sequences_scores } = await model.generate({
    ...inputs,
    tokenizer,
    signal,
    ...options,
    return_dict_in_generate: true,
  })
  const rows = rows_of(sequences)
  const per_text = rows.length / texts.length
  const ends = end_token_ids(options.eos_token_id, model.generation_config?.eos_token_id, model.config.eos_token_id)
  return Promise.all(
    texts.map(async (_, i) => {
      const outputs: Output[] = []
      for (let row = i * per_text; row < (i + 1) * per_text; row++) {
        const token_ids = until_end(rows[row] as number[], ends)
        outputs.push({
          text: tokenizer.decode(token_ids, { skip_special_tokens: true }),
          token_ids,
          ...(sequences_scores && { score: sequences_scores.data[row] as number }),
          ...(with_routes && { routes: await token_routes(model, input_row(inputs, i), token_ids) }),
        })
      }
      return outputs
    }),
  )
}

/** The encoder's ids of one text: the row without its padding. */
function input_row(inputs: BatchEncoding, row: number): number[] {
  const mask = rows_of(inputs.attention_mask as Tensor<'int64'>)[row] as number[]
  return (rows_of(inputs.input_ids)[row] as number[]).filter((_, i) => mask[i] !== 0)
}

function rows_of(tensor: Tensor<'int64'>): number[][] {
  return (tensor.tolist() as bigint[][]).map((row) => row.map(Number))
}

async function* in_batches(lines: Iterable<string> | AsyncIterable<string>, size: number): AsyncGenerator<string[]> {
  let batch: string[] = []
  for await (const line of lines) {
    batch.push(line)
    if (batch.length < size) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}

function format_outputs(outputs: Output[], tokenizer: Tokenizer): string {
  return outputs
    .map(({ text, routes }) => {
      const line = `${text.replace(/[\r\n]+/g, ' ')}\n`
      return routes === undefined ? line : `${line}\n${format_routes(routes, tokenizer)}\n`
    })
    .join('')
}

function format_routes(routes: TokenRoutes, tokenizer: Tokenizer): string {
  return format_stack('encoder', routes.encoder, tokenizer) + format_stack('decoder', routes.decoder, tokenizer)
}

function format_stack(name: string, { ids, layers }: StackRoutes, tokenizer: Tokenizer): string {
  if (layers.length === 0) return table([[name, 'no sparse layers']], '  ')
  const head = [name, ...layers.map(({ layer }) => `layer ${layer}`)]
  const rows = ids.map((id, i) => [
    printable(tokenizer.decode([id], { skip_special_tokens: false })),
    ...layers.map(({ experts }) => (experts[i] === -1 ? 'dropped' : `expert ${experts[i]}`)),
  ])
  return table([head, ...rows], '  ')
}

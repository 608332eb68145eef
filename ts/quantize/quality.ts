/** What quantising costs: loss and routing of a quantised model against its source, on given text. */

import type { BackendOptions } from '../backend/select.js'
import { InputError, throw_if_aborted } from '../errors.js'
import { check_option_names } from '../models/options.js'
import type { Seq2SeqMoEOutput } from '../models/outputs.js'
import { SwitchTransformersForConditionalGeneration } from '../models/switch_transformers.js'
import { AutoTokenizer, type PreTrainedTokenizer } from '../tokenizer/index.js'
import { parse_pairs, type TextPair } from './pairs.js'

export interface QualityOptions extends BackendOptions {
  /** Pairs of text, or the text of a file of them (see `parse_pairs`). */
  pairs: TextPair[] | string
  progress_callback?: (progress: { model: 'source' | 'quantized'; done: number; total: number }) => void
  signal?: AbortSignal
}

export interface QualityReport {
  pairs: number
  /** Target tokens that the losses are means over. */
  target_tokens: number
  /** Cross entropy per target token. */
  source_loss: number
  quantized_loss: number
  /** `quantized_loss / source_loss - 1` */
  relative_loss_change: number
  /** Part of the (token, sparse layer) pairs that go to the same expert; null where no layer is sparse. */
  routing_agreement: number | null
  /** Part of the target positions whose most probable token is the same. */
  token_agreement: number
  source_bytes: number
  quantized_bytes: number
}

const OPTION_NAMES: ReadonlySet<string> = new Set<keyof QualityOptions>([
  'backend',
  'device',
  'pairs',
  'progress_callback',
  'signal',
])
/** Logits of one batch, at most. */
const MAX_LOGITS = 4e6
const MAX_ROWS = 64
const IGNORED = -100

/** Runs both models over the pairs, one after the other, teacher-forced. */
export async function compare_quality(
  source: string,
  quantized: string,
  options: QualityOptions,
): Promise<QualityReport> {
  check_option_names('compare_quality', options, OPTION_NAMES)
  const { pairs: given, progress_callback, signal, ...backend } = options
  const tokenizer = await AutoTokenizer.from_pretrained(source)
  const pairs = typeof given === 'string' ? parse_pairs(given, tokenizer) : given
  if (pairs.length === 0) throw new InputError('There are no pairs to compare on.')
  const measure = async (model: 'source' | 'quantized') => {
    const loaded = await SwitchTransformersForConditionalGeneration.from_pretrained(
      model === 'source' ? source : quantized,
      { ...backend, ...(signal && { signal }) },
    )
    try {
      const report = (done: number) => progress_callback?.({ model, done, total: pairs.length })
      return { ...(await run(loaded, tokenizer, pairs, report, signal)), bytes: loaded.weight_bytes }
    } finally {
      await loaded.dispose()
    }
  }
  const [a, b] = [await measure('source'), await measure('quantized')]
  const [source_loss, quantized_loss] = [a.loss / a.tokens, b.loss / b.tokens]
  return {
    pairs: pairs.length,
    target_tokens: a.tokens,
    source_loss,
    quantized_loss,
    relative_loss_change: quantized_loss / source_loss - 1,
    routing_agreement: a.routes.length === 0 ? null : agreement(a.routes, b.routes),
    token_agreement: agreement(a.choices, b.choices),
    source_bytes: a.bytes,
    quantized_bytes: b.bytes,
  }
}

/** Sum of the losses, experts of all tokens that are no padding, most probable tokens. */
interface Run {
  loss: number
  tokens: number
  routes: number[]
  choices: number[]
}

async function run(
  model: SwitchTransformersForConditionalGeneration,
  tokenizer: PreTrainedTokenizer,
  pairs: readonly TextPair[],
  report: (done: number) => void,
  signal: AbortSignal | undefined,
): Promise<Run> {
  const result: Run = { loss: 0, tokens: 0, routes: [], choices: [] }
  const pad = model.config.pad_token_id ?? 0
  for (let start = 0; start < pairs.length; ) {
    throw_if_aborted(signal)
    const targets: number[][] = []
    const inputs: number[][] = []
    let longest = 0
    while (start + targets.length < pairs.length && targets.length < MAX_ROWS) {
      const { input, target } = pairs[start + targets.length] as TextPair
      const ids = tokenizer.encode(target)
      const next = Math.max(longest, ids.length)
      if (targets.length > 0 && (targets.length + 1) * next * model.config.vocab_size > MAX_LOGITS) break
      longest = next
      targets.push(ids)
      inputs.push(tokenizer.encode(input))
    }
    const width = Math.max(...inputs.map((ids) => ids.length))
    const output = await model.forward({
      input_ids: inputs.map((ids) => padded(ids, width, pad)),
      attention_mask: inputs.map((ids) =>
        padded(
          ids.map(() => 1),
          width,
          0,
        ),
      ),
      labels: targets.map((ids) => padded(ids, longest, IGNORED)),
      output_routes: true,
    })
    const counted = targets.reduce((sum, ids) => sum + ids.length, 0)
    result.loss += ((output.cross_entropy ?? output.loss)?.data[0] as number) * counted
    result.tokens += counted
    append(result, output, inputs, targets, width, longest, model.config.vocab_size)
    start += targets.length
    report(start)
  }
  return result
}

function padded(ids: readonly number[], length: number, value: number): number[] {
  return [...ids, ...new Array<number>(length - ids.length).fill(value)]
}

function append(
  result: Run,
  output: Seq2SeqMoEOutput,
  inputs: readonly number[][],
  targets: readonly number[][],
  width: number,
  longest: number,
  vocab_size: number,
): void {
  for (const [layers, rows, stride] of [
    [output.encoder_routes, inputs, width],
    [output.decoder_routes, targets, longest],
  ] as const) {
    for (const { data } of layers ?? []) {
      for (const [row, ids] of rows.entries()) {
        for (let at = 0; at < ids.length; at++) result.routes.push(data[row * stride + at] as number)
      }
    }
  }
  const logits = output.logits.data as Float32Array
  for (const [row, ids] of targets.entries()) {
    for (let at = 0; at < ids.length; at++) {
      const start = (row * longest + at) * vocab_size
      let best = 0
      for (let token = 1; token < vocab_size; token++) {
        if ((logits[start + token] as number) > (logits[start + best] as number)) best = token
      }
      result.choices.push(best)
    }
  }
}

function agreement(a: readonly number[], b: readonly number[]): number {
  let same = 0
  for (let i = 0; i < a.length; i++) if (a[i] === b[i]) same += 1
  return same / Math.max(1, a.length)
}

/** As Markdown. */
export function format_quality_report(report: QualityReport, dtype: string): string {
  const percent = (part: number) => `${(part * 100).toFixed(2)} %`
  const rows = [
    ['pairs', String(report.pairs)],
    ['target tokens', String(report.target_tokens)],
    ['loss of the source', report.source_loss.toFixed(6)],
    [`loss in ${dtype}`, report.quantized_loss.toFixed(6)],
    ['relative loss change', report.relative_loss_change.toFixed(6)],
    ['routing agreement', report.routing_agreement === null ? 'no sparse layer' : percent(report.routing_agreement)],
    ['agreement of the most probable token', percent(report.token_agreement)],
    ['bytes of the source', String(report.source_bytes)],
    [`bytes in ${dtype}`, String(report.quantized_bytes)],
  ]
  const lines = rows.map(([name, value]) => `| ${name} | ${value} |`)
  return `# Quality in ${dtype}\n\n| measure | value |\n|---|---|\n${lines.join('\n')}\n`
}

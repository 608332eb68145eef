/** `switch-transformers quantize`: a checkpoint in int8, int4 or a mixture, and what that costs. */

import { existsSync, readFileSync, rmSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { FileError } from '../../errors.js'
import {
  compare_quality,
  format_quality_report,
  QUANTIZED_DTYPES,
  type QualityReport,
  type QuantizedDtype,
  quantize_checkpoint,
} from '../../quantize/index.js'
import { write_text_file } from '../../utils/files.js'
import {
  add_backend_flags,
  type BackendFlags,
  backend_options,
  type HubFlags,
  hub_flags,
  hub_options,
} from '../flags.js'
import { show_bytes, show_count } from '../format.js'
import type { Terminal } from '../terminal.js'

interface QuantizeFlags extends BackendFlags, HubFlags {
  dtype: QuantizedDtype
  maxShardSize: string
  force?: boolean
  report?: string
  json?: boolean
}

export const REPORT = 'quantization_report'

export function add_quantize(program: Command, terminal: Terminal): void {
  const command = program
    .command('quantize')
    .description('write a checkpoint in int8 or int4, with its configs and tokenizer')
    .argument('<model>', 'a folder or a hub repository, in floating point')
    .argument('<folder>', 'where to write it')
    .addOption(
      new Option('--dtype <name>', 'mixed: feed-forward layers in int4, attention, embedding and head in int8')
        .choices([...QUANTIZED_DTYPES])
        .default('int8'),
    )
    .option('--max-shard-size <size>', 'largest size of one file, as "5GB"', '5GB')
    .option('--force', 'write into a folder that is not empty')
    .option(
      '--report <file>',
      `compare loss and routing with the source on the lines of a file (input, tab, target; or text) and write ${REPORT}.json and .md`,
    )
    .option('--json', 'print JSON')
  hub_flags(add_backend_flags(command)).action(async (model: string, folder: string, flags: QuantizeFlags) => {
    // Before the work: a file that is not there.
    const pairs = flags.report === undefined ? undefined : read_text(flags.report)
    if (!existsSync(folder)) terminal.on_interrupt(() => rmSync(folder, { recursive: true, force: true }))
    const progress = terminal.progress('quantize')
    try {
      const result = await quantize_checkpoint(model, folder, {
        ...backend_options(flags),
        ...hub_options(flags),
        dtype: flags.dtype,
        max_shard_size: flags.maxShardSize,
        force: flags.force === true,
        signal: terminal.signal,
        progress_callback: (event) => {
          const what = event.status === 'write' ? `writing ${event.file}` : 'quantising'
          progress.update(
            event.loaded,
            event.total,
            `${what}, ${show_bytes(event.loaded)} of ${show_bytes(event.total)}`,
          )
        },
      })
      let report: QualityReport | undefined
      if (pairs !== undefined) {
        report = await compare_quality(model, folder, {
          ...backend_options(flags),
          pairs,
          signal: terminal.signal,
          progress_callback: ({ model: which, done, total }) =>
            progress.update(done, total, `comparing: ${which}, ${done} of ${total} pairs`),
        })
        await write_text_file(folder, `${REPORT}.json`, `${JSON.stringify(report, null, 2)}\n`)
        await write_text_file(folder, `${REPORT}.md`, format_quality_report(report, flags.dtype))
      }
      progress.stop()
      if (flags.json) {
        terminal.print(`${JSON.stringify({ ...result, ...(report && { report }) })}\n`)
        return
      }
      const sizes = `${show_bytes(result.source_bytes)} to ${show_bytes(result.bytes)}`
      terminal.print(`${folder}: ${show_count(result.parameters)} parameters in ${flags.dtype}, ${sizes}\n`)
      if (report !== undefined) terminal.print(`\n${format_quality_report(report, flags.dtype)}`)
    } finally {
      progress.stop()
    }
  })
}

function read_text(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code
    if (reason === 'ENOENT') throw new FileError('FILE_NOT_FOUND', `${file} does not exist.`, { cause })
    throw new FileError('FILE_READ', `${file} cannot be read: ${reason}.`, { cause })
  }
}

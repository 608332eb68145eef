/** `switch-transformers init`: a randomly initialised checkpoint. */

import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { totalmem } from 'node:os'
import path from 'node:path'
import type { Command } from 'commander'
import { Option } from 'commander'
import { SwitchTransformersConfig, SwitchTransformersForConditionalGeneration } from '../../entry/node.js'
import { BackendError, FileError } from '../../errors.js'
import { SIZES, size_config } from '../../inspect/presets.js'
import { count_parameters, type ParameterDimensions } from '../../models/parameter_count.js'
import { parse_json } from '../../utils/repository.js'
import { UsageError } from '../exit.js'
import { add_backend_flags, type BackendFlags, backend_options, DTYPES, dtype_flag, integer_value } from '../flags.js'
import { show_bytes, show_count } from '../format.js'
import type { Terminal } from '../terminal.js'

interface InitFlags extends BackendFlags {
  size?: string
  config?: string
  seed: number
  dtype: (typeof DTYPES)[number]
  initializer: 'reference' | 'paper'
  maxShardSize: string
  force?: boolean
  json?: boolean
}

export function add_init(program: Command, terminal: Terminal): void {
  const command = program
    .command('init')
    .description('write a randomly initialised checkpoint of a published size or of any config')
    .argument('<folder>', 'where to write it')
    .addOption(new Option('--size <name>', 'a published size').choices([...SIZES]))
    .option('--config <file>', 'a config.json')
    .option('--seed <integer>', 'the same seed gives the same weights', integer_value, 0)
    .addOption(dtype_flag('float32', DTYPES))
    .addOption(
      new Option('--initializer <name>', "the reference's scale, or the paper's stable one")
        .choices(['reference', 'paper'])
        .default('reference'),
    )
    .option('--max-shard-size <size>', 'largest size of one file, as "5GB"', '5GB')
    .option('--force', 'write into a folder that is not empty')
    .option('--json', 'print JSON')
  add_backend_flags(command).action(async (folder: string, flags: InitFlags) => {
    const config = new SwitchTransformersConfig(read_config(flags))
    const parameters = count_parameters(config as unknown as ParameterDimensions)
    check_memory(parameters, flags.dtype)
    const fresh = check_folder(folder, flags.force === true)
    if (fresh) terminal.on_interrupt(() => rmSync(folder, { recursive: true, force: true }))

    const progress = terminal.progress('init')
    progress.update(0, 1, 'drawing weights')
    const model = await SwitchTransformersForConditionalGeneration.from_config(config, {
      ...backend_options(flags),
      dtype: flags.dtype,
      seed: flags.seed,
      initializer: flags.initializer,
    })
    let bytes = 0
    try {
      terminal.signal.throwIfAborted()
      await model.save_pretrained(folder, {
        max_shard_size: flags.maxShardSize,
        signal: terminal.signal,
        progress_callback: ({ file, written, total }) => {
          bytes = total
          progress.update(written, total, `writing ${file}, ${show_bytes(written)} of ${show_bytes(total)}`)
        },
      })
    } finally {
      progress.stop()
      await model.dispose()
    }
    const result = { folder, parameters, bytes, dtype: flags.dtype, seed: flags.seed }
    terminal.print(
      flags.json
        ? `${JSON.stringify(result)}\n`
        : `${folder}: ${show_count(parameters)} parameters, ${show_bytes(bytes)}\n`,
    )
  })
}

function read_config(flags: InitFlags): Record<string, unknown> {
  if ((flags.size === undefined) === (flags.config === undefined)) {
    throw new UsageError(`give one of --size (${SIZES.join(', ')}) and --config FILE.`)
  }
  if (flags.size !== undefined) return size_config(flags.size)
  const file = flags.config as string
  try {
    return parse_json(readFileSync(file), file) as Record<string, unknown>
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code
    if (reason === 'ENOENT') throw new FileError('FILE_NOT_FOUND', `${file} does not exist.`, { cause })
    if (reason !== undefined && cause instanceof Error && 'syscall' in cause) {
      throw new FileError('FILE_READ', `${file} cannot be read: ${reason}.`, { cause })
    }
    throw cause
  }
}

/** Refuses what cannot be held, before the machine is brought to a halt by trying. */
function check_memory(parameters: number, dtype: InitFlags['dtype']): void {
  const needed =
    parameters * (dtype === 'auto' || dtype === 'float32' ? 4 : dtype === 'bfloat16' || dtype === 'float16' ? 2 : 1.2)
  // A container's limit, where there is one, may be far below what the machine has; 0 or a huge number where there is none.
  const limit = process.constrainedMemory?.() ?? 0
  const available = limit > 0 ? Math.min(limit, totalmem()) : totalmem()
  if (needed <= available) return
  throw new BackendError(
    'OUT_OF_MEMORY',
    `A model of ${show_count(parameters)} parameters needs ${show_bytes(needed)} in memory, and there are ${show_bytes(available)}. ` +
      (dtype === 'float32' && needed / 2 <= available ? 'Take --dtype bfloat16.' : 'Take a smaller size.'),
    { details: { parameters, needed, available } },
  )
}

/** Whether the folder is not there yet. Throws where it holds something already. */
function check_folder(folder: string, force: boolean): boolean {
  if (!existsSync(folder)) return true
  let entries: string[]
  try {
    entries = readdirSync(folder)
  } catch {
    throw new UsageError(`${path.resolve(folder)} is not a folder.`)
  }
  if (entries.length > 0 && !force) throw new UsageError(`${folder} is not empty. Name another folder, or add --force.`)
  return false
}

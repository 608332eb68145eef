/** `switch-transformers merge`: a base and its LoRA adapters as one model. */

import { existsSync, rmSync } from 'node:fs'
import { type Command, Option } from 'commander'
import { merge_adapter } from '../../adapters/index.js'
import type { FloatDtypeName } from '../../models/options.js'
import {
  add_backend_flags,
  type BackendFlags,
  backend_options,
  FLOAT_DTYPES,
  type HubFlags,
  hub_flags,
  hub_options,
} from '../flags.js'
import { show_bytes, show_count } from '../format.js'
import type { Terminal } from '../terminal.js'

interface MergeFlags extends BackendFlags, HubFlags {
  dtype: FloatDtypeName
  maxShardSize: string
  force?: boolean
  json?: boolean
}

export function add_merge(program: Command, terminal: Terminal): void {
  const command = program
    .command('merge')
    .description('write the model that a base is with its LoRA adapters, with configs and tokenizer')
    .argument('<base>', 'a folder or a hub repository')
    .argument('<adapter>', 'a folder or a hub repository with adapter_config.json')
    .argument('<folder>', 'where to write it')
    .addOption(new Option('--dtype <name>', 'what weights are stored as').choices([...FLOAT_DTYPES]).default('float32'))
    .option('--max-shard-size <size>', 'largest size of one file, as "5GB"', '5GB')
    .option('--force', 'write into a folder that is not empty')
    .option('--json', 'print JSON')
  hub_flags(add_backend_flags(command)).action(
    async (base: string, adapter: string, folder: string, flags: MergeFlags) => {
      if (!existsSync(folder)) terminal.on_interrupt(() => rmSync(folder, { recursive: true, force: true }))
      const progress = terminal.progress('merge')
      try {
        const result = await merge_adapter(base, adapter, folder, {
          ...backend_options(flags),
          ...hub_options(flags),
          dtype: flags.dtype,
          max_shard_size: flags.maxShardSize,
          force: flags.force === true,
          signal: terminal.signal,
          progress_callback: ({ status, loaded, total }) => {
            const what = status === 'write' ? 'writing' : 'loading'
            progress.update(loaded, total, `${what}, ${show_bytes(loaded)} of ${show_bytes(total)}`)
          },
        })
        progress.stop()
        terminal.print(
          flags.json
            ? `${JSON.stringify(result)}\n`
            : `${folder}: ${show_count(result.parameters)} parameters, those of ${base} with ${adapter}\n`,
        )
      } finally {
        progress.stop()
      }
    },
  )
}

/** `switch-transformers inspect`: what is in a checkpoint. */

import { statSync } from 'node:fs'
import path from 'node:path'
import type { Command } from 'commander'
import {
  type CheckpointSummary,
  embedded_model_path,
  inspect_checkpoint,
  type StackSummary,
} from '../../inspect/index.js'
import {
  add_backend_flags,
  type BackendFlags,
  backend_options,
  type HubFlags,
  hub_flags,
  hub_options,
} from '../flags.js'
import { printable, show_bytes, show_count, show_integer, table } from '../format.js'
import type { Terminal } from '../terminal.js'
import { download_progress } from './download.js'

interface InspectFlags extends BackendFlags, HubFlags {
  json?: boolean
  tensors?: boolean
  variant?: string
}

export function add_inspect(program: Command, terminal: Terminal): void {
  const command = program
    .command('inspect')
    .description('layers, experts, parameters, dtypes and files of a checkpoint; downloads it, but loads no weights')
    .argument('[model]', 'hub name, folder or file; the embedded model when left out')
    .option('--tensors', 'list every tensor')
    .option('--variant <name>', 'middle part of model.VARIANT.safetensors')
    .option('--json', 'print JSON')
  hub_flags(add_backend_flags(command)).action(async (model: string | undefined, flags: InspectFlags) => {
    const progress = terminal.progress('download')
    const { name, file } = repository_of(model ?? embedded_model_path())
    try {
      const summary = await inspect_checkpoint(name, {
        ...backend_options(flags),
        ...hub_options(flags),
        ...(file !== undefined && { file }),
        ...(flags.variant !== undefined && { variant: flags.variant }),
        signal: terminal.signal,
        progress_callback: download_progress(progress),
      })
      progress.stop()
      const tensors = flags.tensors === true
      terminal.print(flags.json ? to_json(summary, tensors) : format_checkpoint(summary, tensors))
    } finally {
      progress.stop()
    }
  })
}

/** A file's folder and name; everything else is for the hub to find. */
function repository_of(model: string): { name: string; file?: string } {
  const info = statSync(model, { throwIfNoEntry: false })
  if (info?.isFile() !== true) return { name: model }
  const folder = path.resolve(path.dirname(model))
  // An index stands for its shards.
  return model.endsWith('.index.json') ? { name: folder } : { name: folder, file: path.basename(model) }
}

function to_json({ tensors, ...summary }: CheckpointSummary, with_tensors: boolean): string {
  return `${JSON.stringify(with_tensors ? { ...summary, tensors } : summary, null, 2)}\n`
}

export function format_checkpoint(summary: CheckpointSummary, with_tensors: boolean): string {
  const { config, faults } = summary
  const rows: string[][] = [[summary.commit === undefined ? 'checkpoint' : `commit ${summary.commit}`, summary.name]]
  if (Array.isArray(config?.architectures)) rows.push(['architecture', config.architectures.join(', ')])
  rows.push(['layers', `encoder ${show_stack(summary.encoder)}; decoder ${show_stack(summary.decoder)}`])
  rows.push(['experts', summary.experts === 0 ? 'none' : `${summary.experts} per sparse layer`])
  rows.push([
    'parameters',
    `${show_integer(summary.parameters)} (${show_count(summary.parameters)}), ` +
      `${show_count(summary.parameters_active)} active per token, ${show_count(summary.parameters_experts)} in experts`,
  ])
  if (config !== undefined) rows.push(['dimensions', show_dimensions(config)])
  for (const [dtype, { tensors, bytes }] of Object.entries(summary.dtypes)) {
    rows.push([`dtype ${dtype}`, `${show_integer(tensors)} tensors, ${show_bytes(bytes)}`])
  }
  const several = summary.files.length > 1
  if (several) rows.push(['files', `${summary.files.length} files, ${show_bytes(summary.bytes)}`])
  for (const { name, size } of summary.files)
    rows.push([several ? '' : 'file', `${name}, ${show_bytes(size)} (${show_integer(size)} bytes)`])
  for (const { field, message } of faults) rows.push(['fault', `config.json: ${field} ${message}`])
  const text = table(rows.map((row) => row.map(printable)))
  if (!with_tensors) return text
  const tensors = summary.tensors.map(({ name, dtype, shape, file }) => [
    name,
    dtype,
    `[${shape.join(', ')}]`,
    several ? file : '',
  ])
  return `${text}\n${table(tensors.map((row) => row.map(printable)))}`
}

function show_stack({ layers, sparse_layers }: StackSummary): string {
  if (sparse_layers.length === 0) return `${layers}`
  return `${layers}, of which ${sparse_layers.length} sparse (${sparse_layers.join(' ')})`
}

const DIMENSIONS = ['vocab_size', 'd_model', 'd_ff', 'd_kv', 'num_heads', 'expert_capacity', 'dense_act_fn'] as const

function show_dimensions(config: Record<string, unknown>): string {
  return DIMENSIONS.filter((field) => config[field] !== undefined)
    .map((field) => `${field} ${config[field]}`)
    .join(', ')
}

/** The checkpoints that are compared, made when they are not there yet, and the forms in which each side reads them. */

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { checkpoint, read_config, root, work_folder } from './environment.mjs'

/** What makes base-8's config that of a dense T5 of the same dimensions. */
const DENSE = {
  num_experts: 1,
  num_sparse_encoder_layers: 0,
  num_sparse_decoder_layers: 0,
  encoder_sparse_step: 0,
  decoder_sparse_step: 0,
}

/** A folder that is whole or not there. */
function made(folder, make) {
  if (existsSync(folder)) return folder
  const stage = `${folder}.partial`
  rmSync(stage, { recursive: true, force: true })
  console.error(`Making ${folder}`)
  make(stage)
  renameSync(stage, folder)
  return folder
}

const run = (command, args) => execFileSync(command, args, { stdio: ['ignore', 2, 2] })

function dense_checkpoint() {
  const config = { ...read_config(checkpoint('base-8', 'float32')), ...DENSE }
  return made(join(work_folder(), 'dense-base-float32'), (stage) => {
    const file = join(work_folder(), 'dense-base.json')
    writeFileSync(file, JSON.stringify(config))
    run(process.execPath, [join(root, 'dist/cli.js'), 'init', stage, '--config', file])
  })
}

/** `{ ours, config, forms? }` of `base-8` or `dense`; `forms` of the dense one are the peers' files. */
export function model_files(model, dtype, python) {
  if (model === 'base-8') {
    const ours = checkpoint('base-8', dtype === 'bfloat16' ? dtype : 'float32')
    return { ours, reference: ours, config: read_config(ours) }
  }
  const ours = dense_checkpoint()
  const script = (name) => join(root, 'benches/peers', name)
  const forms = made(join(work_folder(), 'dense-base-forms'), (stage) => {
    mkdirSync(stage)
    run(python, [script('dense_t5_forms.py'), ours, stage])
    run(python, [script('export_t5_encoder.py'), ours, join(stage, 'encoder.onnx')])
  })
  return { ours, reference: join(forms, 't5'), forms, config: read_config(ours) }
}

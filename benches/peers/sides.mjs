/** Every side of a comparison: how its process starts and what it is asked to load. */

import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { cache, root, work_folder } from './environment.mjs'
import { Worker } from './worker.mjs'

const script = (name) => join(root, 'benches/peers', name)

/** candle's T5 is a crate of its own, built when it is first asked for (minutes). */
function candle_program() {
  const target = join(cache, 'candle_t5')
  const args = ['build', '--release', '--quiet', '--manifest-path', script('candle_t5/Cargo.toml')]
  execFileSync('cargo', args, { stdio: ['ignore', 2, 2], env: { ...process.env, CARGO_TARGET_DIR: target } })
  return join(target, 'release', process.platform === 'win32' ? 'candle-t5-bench.exe' : 'candle-t5-bench')
}

const python_side = (file, request) => ({ command: ({ python }) => [python, script(file)], request })
const transformers = (mode) =>
  python_side('transformers_worker.py', ({ reference }, dtype) => ({ folder: reference, dtype, mode }))

/** By name: `command` gives the program and its arguments, `request` what `load` is sent; `only`, the cases it can do. */
const SIDES = {
  ours: {
    command: () => [process.execPath, script('ours_worker.mjs')],
    request: ({ ours }, dtype) => ({ folder: ours, dtype }),
  },
  reference: python_side('transformers_worker.py', ({ reference }) => ({
    folder: reference,
    dtype: 'float32',
    mode: 'eager',
  })),
  eager: transformers('eager'),
  compiled: { ...transformers('compiled'), compiles: true },
  onnxruntime: {
    ...python_side('onnxruntime_worker.py', ({ forms }, dtype) => ({ folder: join(forms, 'encoder.onnx'), dtype })),
    dtypes: ['float32'],
    kinds: ['encode'],
  },
  ctranslate2: { ...python_side('ctranslate2_worker.py', ({ forms }, dtype) => ({ folder: forms, dtype })) },
  candle: {
    command: () => [candle_program()],
    request: ({ forms }, dtype) => ({ folder: join(forms, 't5'), dtype }),
    dtypes: ['float32'],
  },
}

export const compiles = (name) => SIDES[name].compiles === true

export const can_do = (name, dtype, kind) =>
  (SIDES[name].dtypes?.includes(dtype) ?? true) && (SIDES[name].kinds?.includes(kind) ?? true)

/** Starts a side and loads the model: `{ worker, about }`, where `about` says its versions. */
export async function start_side(name, { files, dtype, python, env }) {
  const [command, ...args] = SIDES[name].command({ python })
  // What was compiled once need not be again in the next run.
  const variables = { TORCHINDUCTOR_CACHE_DIR: join(work_folder(), 'inductor'), ...env }
  const worker = new Worker(name, command, args, { env: variables })
  const about = await worker.ask({ op: 'load', ...SIDES[name].request(files, dtype) })
  return { worker, about }
}

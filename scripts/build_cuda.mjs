/**
 * Builds the addon with CUDA: bindings/node/cuda/switch-transformers.<platform>-cuda.node, which loads on every machine and
 * says there whether it found a GPU. Needs no GPU, no driver and, for the compiler, an installed toolkit or pip. The first
 * build takes about four minutes on two cores.
 */

import { copyFileSync, mkdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build_cuda_kernels, fatbin } from './build_cuda_kernels.mjs'
import { platform_name } from './build_native.mjs'
import { cuda_link_home } from './cuda_link.mjs'
import { cuda_environment, require_cuda_toolkit } from './cuda_toolkit.mjs'
import { host_target, require_cargo } from './rust.mjs'
import { main, output, root, run, StepError, say, step } from './steps.mjs'

export const cuda_addon = `bindings/node/cuda/switch-transformers.${platform_name()}-cuda.node`

export async function build_cuda() {
  if (platform_name() !== 'linux-x64-gnu') {
    throw new StepError(`the addon with CUDA is built for linux-x64-gnu, not ${platform_name()}`)
  }
  require_cargo()
  await build_cuda_kernels()
  const inputs = ['Cargo.toml', 'Cargo.lock', 'crates', 'bindings/node', 'scripts/build_cuda.mjs', fatbin]
  return step('cuda addon', { inputs, ignore: /\.node$|\.d\.ts$|\.md$|\/tests\//, outputs: [cuda_addon] }, async () => {
    run('cargo', ['fetch', '--locked'])
    const toolkit = await cuda_link_home(require_cuda_toolkit())
    const env = {
      ...cuda_environment(toolkit),
      SWITCH_CUDA_KERNELS: join(root, fatbin),
      // PTX of candle's kernels for 8.0 is what later ones translate.
      CUDA_COMPUTE_CAP: process.env.CUDA_COMPUTE_CAP ?? '80',
      CUDARC_CUDA_VERSION: '13000',
    }
    const target = host_target()
    run('cargo', ['build', '--release', '--target', target, '-p', 'switch-node', '--features', 'cuda'], { env })
    const folder = process.env.CARGO_TARGET_DIR ?? join(root, 'target')
    const built = join(folder, target, 'release/libswitch_node.so')
    check_libraries(built)
    mkdirSync(join(root, 'bindings/node/cuda'), { recursive: true })
    copyFileSync(built, join(root, cuda_addon))
    await check_loads()
    say(`${cuda_addon}: ready`)
  })
}

/** The addon must load where there is no NVIDIA library at all. */
function check_libraries(addon) {
  const needed = output('readelf', ['--dynamic', '--wide', addon]) ?? ''
  const names = [...needed.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map((match) => match[1])
  const nvidia = names.filter((name) => /^lib(cuda|cublas|curand|nvrtc|nv)/.test(name))
  if (nvidia.length > 0) throw new StepError(`${addon} cannot load without ${nvidia.join(', ')}`)
  const open = (output('nm', ['--dynamic', '--undefined-only', addon]) ?? '')
    .split('\n')
    .map((line) => line.trim().split(/\s+/).at(-1))
    .filter((name) => /^(cu[A-Z]|cublas|curand|nvrtc)/.test(name ?? ''))
  if (open.length > 0) throw new StepError(`${addon} calls what nothing gives it: ${open.slice(0, 10).join(', ')}`)
}

/** Loads it here and says what it found: a GPU, or why there is none, in one line; `auto` is then the CPU. */
async function check_loads() {
  const binding = createRequire(import.meta.url)(join(root, cuda_addon))
  const { devices, unavailable } = JSON.parse((await binding.describe('{}', [], [])).json)
  if (devices.length > 1) return say(`devices here: ${devices.join(', ')}`)
  const config = {
    vocab_size: 8,
    d_model: 8,
    d_kv: 4,
    d_ff: 8,
    num_heads: 2,
    num_layers: 1,
    num_decoder_layers: 1,
    num_experts: 2,
  }
  const request = { config, architecture: 'SwitchTransformersEncoderModel', seed: 0 }
  const init = (device) => binding.model_init(JSON.stringify({ ...request, device }), [], [])
  const failure = await init('cuda').then(
    () => undefined,
    (error) => JSON.parse(error.message),
  )
  if (failure?.code !== 'BACKEND_UNAVAILABLE' || failure.message.includes('\n')) {
    throw new StepError(`device: 'cuda' without a device gives ${JSON.stringify(failure)}`)
  }
  const { model } = JSON.parse((await init('auto')).json)
  const { device } = JSON.parse((await binding.model_info(JSON.stringify({ model }), [], [])).json)
  if (device !== 'cpu') throw new StepError(`device: 'auto' without a device is ${device}`)
  say(`no CUDA device here, and 'auto' is the CPU: ${unavailable.cuda}`)
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(build_cuda)

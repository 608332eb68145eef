/**
 * Runs whole models with `device: 'cuda'` on a machine without a GPU: the driver's library is replaced by one that runs
 * the kernels on this machine's processor (crates/kernels/src/cuda/kernels/host_driver.cpp). Needs what `npm run build:cuda`
 * needs, and as long: it is no part of `npm test`.
 */

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { build_cuda_kernels, fatbin, kernel_sources } from './build_cuda_kernels.mjs'
import { cuda_link_home } from './cuda_link.mjs'
import { cuda_environment, require_cuda_toolkit } from './cuda_toolkit.mjs'
import { host_target } from './rust.mjs'
import { main, root, run, say, step } from './steps.mjs'

const folder = '.setup/cuda_driver'

/** The folder that holds the stand-in, for LD_LIBRARY_PATH. */
export async function build_cuda_driver() {
  const library = `${folder}/libcuda.so.1`
  await step('cuda driver', { inputs: [kernel_sources, 'scripts/test_cuda_driver.mjs'], outputs: [library] }, () => {
    mkdirSync(join(root, folder), { recursive: true })
    run('g++', [
      ...['-std=c++17', '-O2', '-g', '-shared', '-fPIC', '-DSWITCH_HOST'],
      ...['-Wall', '-Wextra', '-Werror', '-Wno-unknown-pragmas'],
      ...['-o', join(root, library), join(root, kernel_sources, 'host_driver.cpp')],
    ])
  })
  return join(root, folder)
}

async function test_cuda_driver() {
  await build_cuda_kernels()
  const stand_in = await build_cuda_driver()
  run('cargo', ['fetch', '--locked'])
  const env = {
    ...cuda_environment(await cuda_link_home(require_cuda_toolkit())),
    SWITCH_CUDA_KERNELS: join(root, fatbin),
    CUDA_COMPUTE_CAP: process.env.CUDA_COMPUTE_CAP ?? '80',
    CUDARC_CUDA_VERSION: '13000',
    LD_LIBRARY_PATH: stand_in,
    // Room for the cases' models, and none for the one that must be refused.
    SWITCH_HOST_MEMORY: String(128 * 2 ** 20),
  }
  const target = ['--release', '--target', host_target()]
  const test = ['test', ...target, '-p', 'switch-engine', '--features', 'cuda', '--test', 'cuda_stand_in']
  // One at a time: the tests of errors make every launch of the process fail.
  const alone = ['--', '--nocapture', '--test-threads=1']
  run('cargo', [...test, ...alone], { env })
  for (const arithmetic of ['float32', 'half', 'tf32']) {
    say(`models on the stand-in, arithmetic: ${arithmetic}`)
    const more = { SWITCH_CUDA_ARITHMETIC: arithmetic }
    run('cargo', [...test, 'every_parity_case', ...alone], { env: { ...env, ...more } })
  }
  for (const [name, value, expected] of [
    ['SWITCH_HOST_DRIVER', '12080', 'found a driver of CUDA 12.8, expected 13.0 or later'],
    ['SWITCH_HOST_CAPABILITY', '75', 'compute capability 7.5, expected 8.0 or later'],
    ['SWITCH_HOST_DEVICES', '0', 'found an NVIDIA driver and no device'],
    ['LD_LIBRARY_PATH', '', 'found no NVIDIA driver'],
  ]) {
    run('cargo', [...test, 'what_is_missing', ...alone], { env: { ...env, [name]: value, SWITCH_EXPECT: expected } })
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(test_cuda_driver)

/**
 * Compiles the CUDA kernels for compute capability 8.0, 9.0 and 10.0 (each serves the later minor versions), with PTX for
 * what comes after: .setup/cuda_kernels.fatbin. Any warning is an error. About two minutes on one core.
 */

import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { cuda_environment, require_cuda_toolkit } from './cuda_toolkit.mjs'
import { main, root, run, say, step } from './steps.mjs'

export const fatbin = '.setup/cuda_kernels.fatbin'
export const kernel_sources = 'crates/kernels/src/cuda/kernels'

const CAPABILITIES = ['80', '90', '100']

export async function build_cuda_kernels() {
  return step(
    'cuda kernels',
    { inputs: [kernel_sources, 'scripts/build_cuda_kernels.mjs'], ignore: /host_(shim|driver)/, outputs: [fatbin] },
    () => {
      const home = require_cuda_toolkit()
      mkdirSync(dirname(join(root, fatbin)), { recursive: true })
      const newest = CAPABILITIES.at(-1)
      say(`CUDA kernels for compute capability ${CAPABILITIES.map((c) => `${c.slice(0, -1)}.${c.at(-1)}`).join(', ')}`)
      run(
        join(home, 'bin/nvcc'),
        [
          ...['-std=c++17', '-O3', '--Werror', 'all-warnings', '-fatbin'],
          ...CAPABILITIES.flatMap((c) => ['-gencode', `arch=compute_${c},code=sm_${c}`]),
          ...['-gencode', `arch=compute_${newest},code=compute_${newest}`],
          ...['-o', join(root, fatbin), join(root, kernel_sources, 'all.cu')],
        ],
        { env: cuda_environment(home) },
      )
    },
  )
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(build_cuda_kernels)

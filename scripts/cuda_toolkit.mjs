/**
 * A CUDA 13.0 toolkit to build with: an installed one, or NVIDIA's packages from PyPI, unpacked under .setup/cuda.
 * Neither a GPU nor a driver is needed.
 *
 * 13.0 because candle's cudarc 0.19.10 knows no toolkit past 13.4, and a module built by an older toolkit runs on more drivers.
 */

import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { main, output, root, run, StepError, say } from './steps.mjs'

/** Exact, so that the same compiler builds everywhere. */
const PACKAGES = [
  'nvidia-cuda-nvcc==13.0.88',
  'nvidia-cuda-crt==13.0.88',
  'nvidia-nvvm==13.0.88',
  'nvidia-cuda-runtime==13.0.96',
  'nvidia-cuda-cccl==13.0.85',
]
const folder = join(root, '.setup/cuda')

/** The release of the nvcc in a toolkit's folder, such as 13.0; null where there is none that runs. */
function release_of(home) {
  const text = output(join(home, 'bin/nvcc'), ['--version'])
  return text?.match(/release (\d+\.\d+)/)?.[1] ?? null
}

/**
 * The toolkit's folder, installed first if need be.
 * @returns {string}
 */
export function require_cuda_toolkit() {
  const named = process.env.CUDA_HOME || process.env.CUDA_PATH
  for (const home of named ? [named] : ['/usr/local/cuda-13.0', '/usr/local/cuda']) {
    const release = release_of(home)
    if (release !== null && /^13\.[0-4]$/.test(release)) return home
    if (named) {
      throw new StepError(
        `${home} (CUDA_HOME or CUDA_PATH) has ${release === null ? 'no nvcc that runs' : `CUDA ${release}`}; ` +
          'CUDA 13.0 to 13.4 is needed. Unset the variable to have 13.0 fetched from PyPI.',
      )
    }
  }
  const home = join(folder, 'nvidia/cu13')
  if (release_of(home) === null) fetch_toolkit(home)
  return home
}

function fetch_toolkit(home) {
  const python = ['python3', 'python'].find((name) => output(name, ['-m', 'pip', '--version']) !== null)
  if (python === undefined) {
    throw new StepError('no CUDA 13 toolkit and no pip to fetch one: install either, and set CUDA_HOME for the former')
  }
  say('fetching the CUDA 13.0 compiler from PyPI (105 MB)')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const quiet = ['--quiet', '--disable-pip-version-check', '--no-deps', '--only-binary', ':all:']
  run(python, ['-m', 'pip', 'install', ...quiet, '--target', folder, ...PACKAGES])
  // pip keeps the packages' modes; other installers do not.
  for (const part of ['bin', 'nvvm/bin']) {
    for (const name of readdirSync(join(home, part))) {
      if (existsSync(join(home, part, name))) chmodSync(join(home, part, name), 0o755)
    }
  }
  if (release_of(home) === null) throw new StepError(`the fetched ${home}/bin/nvcc does not run`)
}

/** The environment in which nvcc and cargo find the toolkit. */
export function cuda_environment(home) {
  return {
    CUDA_HOME: home,
    CUDA_PATH: home,
    CUDA_ROOT: home,
    CUDA_TOOLKIT_ROOT_DIR: home,
    PATH: `${join(home, 'bin')}:${process.env.PATH}`,
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  await main(() => say(`CUDA toolkit: ${require_cuda_toolkit()}`))
}

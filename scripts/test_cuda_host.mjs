/**
 * Runs the CUDA kernels on this machine's processor, thread by thread, against the CPU's: no GPU and no CUDA toolkit, but
 * an x86-64 Linux with g++. `--sanitize` has the address and undefined-behaviour sanitizers watch (slower).
 */

import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { kernel_sources } from './build_cuda_kernels.mjs'
import { host_target, require_cargo } from './rust.mjs'
import { main, output, root, run, StepError, step } from './steps.mjs'

/** The kernels as a library of this machine's code. */
export async function build_cuda_host(sanitize) {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new StepError(
      `the kernels' run on the host is written for x86-64 Linux, not ${process.arch} ${process.platform}`,
    )
  }
  if (output('g++', ['--version']) === null)
    throw new StepError('g++ is not on the PATH: install it, then run this again')
  const name = `cuda_host${sanitize ? '_sanitized' : ''}`
  const library = `.setup/${name}.so`
  await step(name, { inputs: [kernel_sources, 'scripts/test_cuda_host.mjs'], outputs: [library] }, () => {
    mkdirSync(dirname(join(root, library)), { recursive: true })
    const watch = sanitize ? ['-fsanitize=address,undefined', '-fno-sanitize-recover=undefined'] : []
    run('g++', [
      ...['-std=c++17', '-O2', '-g', '-shared', '-fPIC', '-DSWITCH_HOST'],
      // g++ knows no #pragma unroll without a number; CUDA does.
      ...['-Wall', '-Wextra', '-Werror', '-Wno-unknown-pragmas', ...watch],
      ...['-o', join(root, library), join(root, kernel_sources, 'host_shim.cpp')],
    ])
  })
  return join(root, library)
}

async function test_cuda_host() {
  require_cargo()
  const sanitize = process.argv.includes('--sanitize')
  const env = { SWITCH_CUDA_HOST: await build_cuda_host(sanitize) }
  if (sanitize) {
    const runtime = output('g++', ['-print-file-name=libasan.so'])
    // The library is loaded by a program that does not know it. Leaks: the scheduler keeps its stacks for the next run.
    Object.assign(env, { LD_PRELOAD: runtime, ASAN_OPTIONS: 'detect_leaks=0:detect_stack_use_after_return=0' })
  }
  const test = ['-p', 'switch-kernels', '--features', 'cuda', '--test', 'cuda_host']
  const target = ['--release', '--target', host_target()]
  run('cargo', ['test', ...target, ...test, '--no-run'])
  run('cargo', ['test', ...target, '--quiet', ...test], { env })
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(test_cuda_host)

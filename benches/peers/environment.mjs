/** What a bench needs around it: a folder for checkpoints, Python with the peers, the compiled measurement, and words for the machine. */

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { arch, availableParallelism, cpus, platform, release, tmpdir, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
export const root = join(here, '../..')
export const cache = join(root, 'node_modules/.cache/switch-transformers-benches')

/** What is installed where `PYTHON` names no interpreter that has it, by the name under which it is imported. */
const PEERS = { torch: 'torch', transformers: 'transformers==5.18.0', safetensors: 'safetensors', numpy: 'numpy' }
/** What the comparison with other runtimes needs beside these. */
export const RUNTIMES = {
  onnxruntime: 'onnxruntime',
  onnx: 'onnx',
  onnxscript: 'onnxscript',
  ctranslate2: 'ctranslate2',
}

export function fail(message) {
  console.error(message)
  process.exit(1)
}

export function require_build() {
  if (!existsSync(join(root, 'dist/node.js'))) fail('The library is not built: run `npm run setup` first.')
}

/** A Python that has the peers (and `more`): `PYTHON`, else a virtual environment that is made here once. */
export function peers_python(more = {}) {
  const wanted = { ...PEERS, ...more }
  const failure = (python) => {
    const { status, stderr } = spawnSync(python, ['-c', `import ${Object.keys(wanted).join(', ')}`], {
      encoding: 'utf8',
    })
    return status === 0 ? undefined : (stderr ?? `${python} does not start`)
  }
  const given = process.env.PYTHON
  if (given) {
    const reason = failure(given)
    if (reason === undefined) return given
    fail(
      `PYTHON=${given} lacks some of what is compared. It needs: pip install ${Object.values(wanted).join(' ')}\n${reason}`,
    )
  }
  const folder = join(cache, 'python')
  const python = join(folder, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python')
  if (!existsSync(python)) {
    execFileSync(process.platform === 'win32' ? 'python' : 'python3', ['-m', 'venv', folder], {
      stdio: ['ignore', 2, 2],
    })
  }
  if (failure(python) !== undefined) {
    const packages = Object.values(wanted)
    console.error(`Installing ${packages.join(', ')} into ${folder} (some GB; PYTHON names another interpreter)`)
    execFileSync(python, ['-m', 'pip', 'install', '--quiet', ...packages], { stdio: ['ignore', 2, 2] })
  }
  return python
}

/** Where checkpoints of some GB are kept between runs: `BENCH_FOLDER`, else a folder among the temporary ones. */
export function work_folder() {
  const folder = process.env.BENCH_FOLDER ?? join(tmpdir(), 'switch-transformers-benches')
  mkdirSync(folder, { recursive: true })
  return folder
}

/** A randomly initialised checkpoint of a named size, made when it is not there yet. */
export function checkpoint(size, dtype) {
  const folder = join(work_folder(), `${size}-${dtype}`)
  if (!existsSync(join(folder, 'config.json'))) {
    const stage = `${folder}.partial`
    rmSync(stage, { recursive: true, force: true })
    console.error(`Making a randomly initialised ${size} in ${dtype}: ${folder}`)
    const cli = join(root, 'dist/cli.js')
    execFileSync(process.execPath, [cli, 'init', stage, '--size', size, '--dtype', dtype], { stdio: ['ignore', 2, 2] })
    renameSync(stage, folder)
  }
  return folder
}

export const read_config = (folder) => JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))

/** Variables that give each side so many threads. */
export const thread_variables = (threads) => ({
  SWITCH_NUM_THREADS: threads,
  OMP_NUM_THREADS: threads,
  MKL_NUM_THREADS: threads,
  RAYON_NUM_THREADS: threads,
})

/** The limits of this machine, measured now with `threads` threads (all cores when left out): see machine.rs. */
export function measure_machine(threads) {
  const source = join(here, 'machine.rs')
  const program = join(cache, process.platform === 'win32' ? 'machine.exe' : 'machine')
  mkdirSync(cache, { recursive: true })
  if (!existsSync(program) || statSync(program).mtimeMs < statSync(source).mtimeMs) {
    execFileSync('rustc', ['--edition', '2021', '-O', source, '-o', program], { stdio: ['ignore', 2, 2] })
  }
  return JSON.parse(execFileSync(program, threads === undefined ? [] : [threads], { encoding: 'utf8' }))
}

/** The machine in words that name its kind, not its place. */
export function describe_machine() {
  const model = cpus()[0]?.model.trim() ?? 'unknown processor'
  return `${model}, ${availableParallelism()} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, ${platform()} ${arch()} ${release().split('-')[0]}`
}

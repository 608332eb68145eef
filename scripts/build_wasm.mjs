/**
 * Builds the WASM module in three forms from one source, each in bindings/wasm/pkg/<form>/:
 *
 * - simd: SIMD128, for every engine that has it
 * - threads: SIMD128 and threads over shared memory
 * - relaxed: the same with relaxed SIMD
 *
 * and from the generated glue bindings/wasm/pkg/glue.js, which serves all three.
 *
 * wasm-pack drives rustup's toolchain. It refuses one whose library is not prebuilt (it looks for the target in the
 * sysroot, even with --mode no-install), and no prebuilt library has threads; there cargo and wasm-bindgen, which
 * wasm-pack would call, are called here. Either way wasm-opt comes from npm, since wasm-pack would download its own.
 */

import { spawn } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { locked_version, require_cargo, require_cargo_tool, wasm_toolchain } from './rust.mjs'
import { is_stale, main, output, root, run, run_tool, StepError, step } from './steps.mjs'

/**
 * Every engine that has SIMD128 has these. Reference types are not among them: rustc and wasm-bindgen would use them, but
 * Chrome has had them since 96 and SIMD128 since 91.
 */
const FEATURES = ['simd', 'bulk-memory', 'sign-ext', 'mutable-globals', 'nontrapping-float-to-int']
const NO_REFERENCES = ['-reference-types', '-multivalue']

/**
 * Rust's prebuilt library says of itself that it may use them (it does not), and wasm-bindgen goes by what a module says:
 * so the linker is told what to write.
 */
const PREBUILT_LINK = [
  '--no-check-features',
  '--features=simd128,bulk-memory,bulk-memory-opt,mutable-globals,nontrapping-fptoint,sign-ext',
]

/** A memory that JavaScript makes and shares with workers, and what wasm-bindgen needs to start a thread in it. */
const SHARED_MEMORY = [
  ...['--shared-memory', '--import-memory', `--max-memory=${2 ** 32}`],
  ...['__wasm_init_tls', '__tls_size', '__tls_align', '__tls_base', '__heap_base'].map((name) => `--export=${name}`),
]

const ARTEFACTS = [
  // No relaxed SIMD and no atomics: one such opcode, and engines without them reject all.
  { form: 'simd', target_features: ['+simd128', ...NO_REFERENCES], features: FEATURES, link: [] },
  {
    form: 'threads',
    target_features: ['+simd128', '+atomics', '+bulk-memory', ...NO_REFERENCES],
    features: [...FEATURES, 'threads'],
    link: SHARED_MEMORY,
  },
  {
    form: 'relaxed',
    target_features: ['+simd128', '+atomics', '+bulk-memory', '+relaxed-simd', ...NO_REFERENCES],
    features: [...FEATURES, 'threads', 'relaxed-simd'],
    link: SHARED_MEMORY,
  },
]

const PKG = 'bindings/wasm/pkg'
const NAME = 'switch_transformers'
const GLUE = [`${PKG}/glue.js`, `${PKG}/glue.d.ts`]

const folder = ({ form }) => `${PKG}/${form}`
const module_file = (artefact) => `${folder(artefact)}/${NAME}_bg.wasm`

/** The modules that are shipped, by the file name they get there. */
export const wasm_modules = Object.fromEntries(
  ARTEFACTS.map((artefact) => [
    `${NAME}${artefact.form === 'simd' ? '' : `_${artefact.form}`}.wasm`,
    module_file(artefact),
  ]),
)

function target_directory() {
  return JSON.parse(output('cargo', ['metadata', '--no-deps', '--format-version', '1'])).target_directory
}

function rust_flags({ target_features, link }) {
  return [
    ...['-C', `target-feature=${target_features.join(',')}`],
    ...['--cfg', 'getrandom_backend="wasm_js"'],
    ...link.flatMap((flag) => ['-C', `link-arg=${flag}`]),
  ]
}

function build_with_wasm_pack(artefact) {
  require_cargo_tool('wasm-pack', 'wasm-pack')
  run(
    'wasm-pack',
    [
      ...['build', 'bindings/wasm', '--target', 'web', '--mode', 'no-install', '--no-opt', '--no-pack'],
      // Relative to the crate.
      ...['--profile', 'wasm', '--out-name', NAME, '--out-dir', `pkg/${artefact.form}`],
    ],
    { env: { CARGO_ENCODED_RUSTFLAGS: rust_flags({ ...artefact, link: PREBUILT_LINK }).join('\x1f') } },
  )
}

function build_with_std({ cargo, env }, artefact) {
  // A folder each: cargo would build everything anew whenever the flags change.
  const target = join(target_directory(), `wasm-${artefact.form}`)
  run(
    cargo,
    [
      ...['build', '-p', 'switch-wasm', '--profile', 'wasm', '--target', 'wasm32-unknown-unknown'],
      ...['-Zbuild-std=std,panic_abort', '--target-dir', target],
    ],
    { env: { ...env, CARGO_ENCODED_RUSTFLAGS: rust_flags(artefact).join('\x1f') } },
  )
  run('wasm-bindgen', [
    ...['--target', 'web', '--out-dir', folder(artefact), '--out-name', NAME],
    join(target, 'wasm32-unknown-unknown/wasm/switch_wasm.wasm'),
  ])
}

function optimise(artefact) {
  const optimised = `${folder(artefact)}/optimised.wasm`
  run_tool('binaryen/bin/wasm-opt', [
    '-O3',
    // Kernels keep their innermost loops in functions of their own, in which engines do not run out of registers.
    '--one-caller-inline-max-function-size=60',
    '--mvp-features',
    ...artefact.features.map((feature) => `--enable-${feature}`),
    ...[module_file(artefact), '-o', optimised],
  ])
  renameSync(join(root, optimised), join(root, module_file(artefact)))
}

/** Everything that is fetched when it is missing. */
function require_tools() {
  require_cargo()
  for (const { link } of ARTEFACTS) wasm_toolchain({ has_threads: link.length > 0 })
  require_cargo_tool('wasm-bindgen-cli', 'wasm-bindgen', locked_version('wasm-bindgen'))
}

const build_step = (artefact) => ({
  inputs: ['Cargo.toml', 'Cargo.lock', 'crates', 'bindings/wasm', 'scripts/build_wasm.mjs', 'scripts/rust.mjs'],
  ignore: /bindings\/wasm\/pkg|\.md$|\/(tests|benches)\//,
  outputs: [`${folder(artefact)}/${NAME}.js`, `${folder(artefact)}/${NAME}.d.ts`, module_file(artefact)],
})

function build(artefact) {
  return step(`WASM module (${artefact.form})`, build_step(artefact), () => {
    const toolchain = wasm_toolchain({ has_threads: artefact.link.length > 0 })
    rmSync(join(root, folder(artefact)), { recursive: true, force: true })
    mkdirSync(join(root, folder(artefact)), { recursive: true })
    if (toolchain.kind === 'prebuilt') build_with_wasm_pack(artefact)
    else build_with_std(toolchain, artefact)
    optimise(artefact)
  })
}

/** Builds in a process of its own: the linker, which takes most of the time, uses one core. */
function build_aside({ form }) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [fileURLToPath(import.meta.url), form], { cwd: root, stdio: 'inherit' })
    child.on('error', reject)
    child.on('exit', (code) =>
      code === 0 ? resolve() : reject(new StepError(`the WASM module (${form}) could not be built`)),
    )
  })
}

function replaced(code, from, to) {
  if (!from.test(code)) throw new StepError(`the generated glue has changed: it has no ${from}`)
  return code.replace(from, to)
}

/**
 * The glue keeps its instance in variables of its module, so that there could never be a second one: this makes it a
 * function, each call of which has an instance of its own. That of the modules with threads does for the other too,
 * once it makes no memory by itself. Where the module is, we always say; a bundler must not follow a URL to nothing.
 */
function make_glue() {
  const source = join(root, PKG, 'threads', NAME)
  let code = readFileSync(`${source}.js`, 'utf8')
  const names = [...code.matchAll(/^export (?:async )?function (\w+)/gm)].map(([, name]) => name)
  code = replaced(code, /^\/\* @ts-self-types.*\n/, '')
  code = replaced(code, /^export (?=function)/gm, '')
  code = replaced(code, /^export \{.*\};?$/m, `return { init: __wbg_init, ${names.join(', ')} }`)
  code = replaced(code, /memory: memory \|\| new WebAssembly\.Memory\(\{.*?\}\)/, 'memory')
  code = replaced(code, /new URL\('\w+\.wasm', import\.meta\.url\)/, 'undefined')
  for (const artefact of ARTEFACTS) {
    const bytes = readFileSync(join(root, module_file(artefact)))
    // Node 20 knows no relaxed SIMD and cannot read that form; newer ones check it.
    if (artefact.form === 'relaxed' && !WebAssembly.validate(bytes)) continue
    const module = new WebAssembly.Module(bytes)
    const unknown = WebAssembly.Module.imports(module).find(({ name }) => !code.includes(name))
    if (unknown) throw new StepError(`the glue of "threads" does not do for "${artefact.form}": no ${unknown.name}`)
  }
  writeFileSync(join(root, GLUE[0]), `export function make_glue() {\n${code}}\n`)
  copyFileSync(`${source}.d.ts`, join(root, PKG, 'module.d.ts'))
  const types =
    "import type * as module from './module.js'\n\n" +
    "export declare function make_glue(): Omit<typeof module, 'default' | 'initSync'> & { init: (typeof module)['default'] }\n"
  writeFileSync(join(root, GLUE[1]), types)
}

const stale_artefacts = () =>
  ARTEFACTS.filter((artefact) => is_stale(`WASM module (${artefact.form})`, build_step(artefact)))

/** Whether every form is there and made from what is here. */
export function is_wasm_built() {
  return stale_artefacts().length === 0 && GLUE.every((file) => existsSync(join(root, file)))
}

export async function build_wasm() {
  const stale = stale_artefacts()
  if (stale.length > 0) require_tools()
  const built = await Promise.allSettled(stale.map(build_aside))
  for (const { reason } of built) if (reason) throw reason
  await step('WASM glue', { inputs: [PKG], ignore: /\/pkg\/[^/]+$/, outputs: GLUE }, make_glue)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const one = ARTEFACTS.find(({ form }) => form === process.argv[2])
  await main(() => (one === undefined ? build_wasm() : build(one)))
}

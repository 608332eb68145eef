/**
 * Builds the WASM module: bindings/wasm/pkg/switch_transformers.js and switch_transformers_bg.wasm.
 *
 * wasm-pack drives rustup's toolchain. It refuses one whose library is not prebuilt (it looks for the target in the
 * sysroot, even with --mode no-install), so with Debian's, cargo and wasm-bindgen, which wasm-pack would call, are
 * called here. Either way wasm-opt comes from npm, since wasm-pack would download its own.
 */

import { mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { locked_version, require_cargo, require_cargo_tool, wasm_toolchain } from './rust.mjs'
import { main, output, root, run, run_tool, step } from './steps.mjs'

/** Every engine that has SIMD128 has these. No relaxed SIMD and no atomics: one such opcode, and Safari rejects all. */
const RUSTFLAGS = '-C target-feature=+simd128 --cfg getrandom_backend="wasm_js"'
const FEATURES = [
  'simd',
  'bulk-memory',
  'sign-ext',
  'mutable-globals',
  'nontrapping-float-to-int',
  'reference-types',
  'multivalue',
]
const PKG = 'bindings/wasm/pkg'
const NAME = 'switch_transformers'

export const wasm_outputs = [`${PKG}/${NAME}.js`, `${PKG}/${NAME}.d.ts`, `${PKG}/${NAME}_bg.wasm`]

function target_directory() {
  return JSON.parse(output('cargo', ['metadata', '--no-deps', '--format-version', '1'])).target_directory
}

function build_with_rustup() {
  require_cargo_tool('wasm-pack', 'wasm-pack')
  run(
    'wasm-pack',
    [
      ...['build', 'bindings/wasm', '--target', 'web', '--mode', 'no-install', '--no-opt', '--no-pack'],
      ...['--profile', 'wasm', '--out-name', NAME],
    ],
    { env: { RUSTFLAGS } },
  )
}

function build_with_debian(env) {
  const target = join(target_directory(), 'debian')
  run(
    '/usr/bin/cargo',
    [
      ...['build', '-p', 'switch-wasm', '--profile', 'wasm', '--target', 'wasm32-unknown-unknown'],
      ...['-Zbuild-std=std,panic_abort', '--target-dir', target],
    ],
    { env: { ...env, RUSTFLAGS } },
  )
  run('wasm-bindgen', [
    ...['--target', 'web', '--out-dir', PKG, '--out-name', NAME],
    join(target, 'wasm32-unknown-unknown/wasm/switch_wasm.wasm'),
  ])
}

export async function build_wasm() {
  return step(
    'WASM module',
    {
      inputs: ['Cargo.toml', 'Cargo.lock', 'crates', 'bindings/wasm', 'scripts/build_wasm.mjs'],
      ignore: /bindings\/wasm\/pkg|\.md$|\/tests\//,
      outputs: wasm_outputs,
    },
    () => {
      require_cargo()
      const toolchain = wasm_toolchain()
      require_cargo_tool('wasm-bindgen-cli', 'wasm-bindgen', locked_version('wasm-bindgen'))
      rmSync(join(root, PKG), { recursive: true, force: true })
      mkdirSync(join(root, PKG), { recursive: true })
      if (toolchain.kind === 'rustup') build_with_rustup()
      else build_with_debian(toolchain.env)
      const module = `${PKG}/${NAME}_bg.wasm`
      const optimised = `${PKG}/optimised.wasm`
      run_tool('binaryen/bin/wasm-opt', [
        '-O3',
        '--mvp-features',
        ...FEATURES.map((name) => `--enable-${name}`),
        module,
        '-o',
        optimised,
      ])
      renameSync(join(root, optimised), join(root, module))
    },
  )
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(build_wasm)

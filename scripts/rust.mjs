/** Which Rust there is, and what is fetched when something of it is missing. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { output, root, run, StepError, say } from './steps.mjs'

const TARGET = 'wasm32-unknown-unknown'
/** Debian's Rust for the web: no prebuilt library for WASM, but its source, from which cargo builds one. */
const DEBIAN_PACKAGES = ['rustc-web', 'cargo-web', 'rust-web-src', 'rust-web-llvm', 'lld']
const DEBIAN_RUSTC = '/usr/bin/rustc'
const DEBIAN_SOURCE = '/usr/lib/rustlib/src/rust/library/std/Cargo.toml'

export function require_cargo() {
  if (output('cargo', ['--version']) !== null) return
  throw new StepError('cargo is not on the PATH: install Rust 1.89 or later (https://rustup.rs), then run this again')
}

/** The version that Cargo.lock fixes for a crate. */
export function locked_version(crate) {
  const lock = readFileSync(join(root, 'Cargo.lock'), 'utf8')
  const version = lock.match(new RegExp(`name = "${crate}"\\nversion = "([^"]+)"`))?.[1]
  if (version === undefined) throw new StepError(`Cargo.lock has no ${crate}`)
  return version
}

/** Makes sure that a command of a crate is there, at `version` if one is given. */
export function require_cargo_tool(crate, command, version) {
  const found = output(command, ['--version'])?.split(' ')[1]
  if (found !== undefined && (version === undefined || found === version)) return
  say(`installing ${crate} ${version ?? ''} with cargo, for ${command} (1 to 2 minutes)`)
  const install = ['install', crate, '--quiet', ...(version === undefined ? [] : ['--version', version])]
  // A mirror may lack a version that the crate's own lock file names.
  if (output('cargo', [...install, '--locked']) === null) run('cargo', install)
}

/**
 * The toolchain that builds WASM. The standard library's prebuilt form serves where there are no threads, if rustup has
 * it or can get it; otherwise the library is built from its source, rustup's or Debian's.
 * @returns {{ kind: 'prebuilt' } | { kind: 'source', cargo: string, env: Record<string, string> }}
 */
export function wasm_toolchain({ has_threads }) {
  // Unstable parts of cargo and rustc (-Zbuild-std, the feature "atomics") are for nightly toolchains unless this is set.
  const unstable = { RUSTC_BOOTSTRAP: '1' }
  if (process.env.SWITCH_WASM_TOOLCHAIN !== 'debian') {
    if (has_threads) {
      if (has_rustup_component('rust-src')) return { kind: 'source', cargo: 'cargo', env: unstable }
    } else if (has_rustup_target()) return { kind: 'prebuilt' }
  }
  require_debian()
  return {
    kind: 'source',
    cargo: '/usr/bin/cargo',
    env: {
      ...unstable,
      PATH: `/usr/bin:${process.env.PATH}`,
      RUSTC: DEBIAN_RUSTC,
      CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: 'wasm-ld',
    },
  }
}

function has_rustup_target() {
  const installed = output('rustup', ['target', 'list', '--installed'])
  if (installed?.split('\n').includes(TARGET)) return true
  // A toolchain without rustup may still have the target's library.
  const sysroot = output('rustc', ['--target', TARGET, '--print', 'target-libdir'])
  if (installed === null) return sysroot !== null && output('ls', [`${sysroot}/self-contained`]) !== null
  return try_rustup(`Rust's library for ${TARGET}`, ['target', 'add', TARGET])
}

function has_rustup_component(name) {
  const installed = output('rustup', ['component', 'list', '--installed'])
  if (installed === null) return false
  return installed.split('\n').includes(name) || try_rustup(name, ['component', 'add', name])
}

function try_rustup(what, command) {
  say(`adding ${what} with rustup`)
  if (output('rustup', command) !== null) return true
  say("rustup could not: Debian's toolchain is tried instead")
  return false
}

function require_debian() {
  const complete =
    output(DEBIAN_RUSTC, ['--version']) !== null &&
    output('/usr/bin/cargo', ['--version']) !== null &&
    output('wasm-ld', ['--version']) !== null &&
    output('ls', [DEBIAN_SOURCE]) !== null
  if (complete) return
  if (output('apt-get', ['--version']) === null || process.getuid?.() !== 0) {
    throw new StepError(
      `no Rust library for ${TARGET}: run "rustup target add ${TARGET}", or as root "apt-get install ${DEBIAN_PACKAGES.join(' ')}"`,
    )
  }
  say(`installing Debian packages: ${DEBIAN_PACKAGES.join(' ')}`)
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  run('apt-get', ['update', '-qq'], { env })
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...DEBIAN_PACKAGES], { env })
}

/** The target that cargo builds for by itself, such as x86_64-unknown-linux-gnu. */
export function host_target() {
  const text = output('rustc', ['-vV']) ?? ''
  const host = /^host: (.+)$/m.exec(text)?.[1]
  if (host === undefined) throw new StepError(`rustc -vV does not name its host:\n${text}`)
  return host
}

/** Builds the native addon for this machine: bindings/node/switch-transformers.<platform>.node and its types. */

import { pathToFileURL } from 'node:url'
import { require_cargo } from './rust.mjs'
import { main, run_tool, step } from './steps.mjs'

/** Names as napi's users know them: linux-x64-gnu, darwin-arm64, win32-x64-msvc. */
export function platform_name() {
  const { platform, arch } = process
  if (platform === 'linux') {
    const gnu = process.report?.getReport().header.glibcVersionRuntime !== undefined
    return `linux-${arch}-${gnu ? 'gnu' : 'musl'}`
  }
  return platform === 'win32' ? `win32-${arch}-msvc` : `${platform}-${arch}`
}

export const addon = `bindings/node/switch-transformers.${platform_name()}.node`

const DTS_HEADER = '/** Made by the build from bindings/node. */\n'

export async function build_native() {
  return step(
    'native addon',
    {
      inputs: ['Cargo.toml', 'Cargo.lock', 'crates', 'bindings/node', 'scripts/build_native.mjs'],
      ignore: /\.node$|\.d\.ts$|\.md$|\/tests\//,
      outputs: [addon, 'bindings/node/index.d.ts'],
    },
    () => {
      require_cargo()
      run_tool('@napi-rs/cli/dist/cli.js', [
        'build',
        ...['--release', '--platform', '--no-js', '--dts', 'index.d.ts', '--dts-header', DTS_HEADER],
        ...['--manifest-path', 'bindings/node/Cargo.toml', '--output-dir', 'bindings/node'],
        ...['--package-json-path', 'package.json'],
      ])
    },
  )
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(build_native)

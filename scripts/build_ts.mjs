/**
 * Bundles the TypeScript into dist/: the Node entry (ESM, CommonJS, types), the browser entry (ESM, types), the workers,
 * the command line, and beside them the WASM module and the embedded model.
 */

import { chmodSync, copyFileSync, cpSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { rolldown } from 'rolldown'
import { dts } from 'rolldown-plugin-dts'
import { wasm_modules } from './build_wasm.mjs'
import { main, root, step } from './steps.mjs'

const DIST = join(root, 'dist')
/** Made here, then moved in one go: what runs from dist/ meanwhile finds either the old files or the new. */
const STAGE = join(root, '.setup/dist')
const EMBEDDED = [
  'README.md',
  'config.json',
  'generation_config.json',
  'model.safetensors',
  'tokenizer.json',
  'tokenizer_config.json',
]

/** In Node, what is installed beside the package is not bundled; a browser's page may have no installer. */
const installed = (id) =>
  /^(node:|@huggingface\/|commander|cli-progress|papaparse|pure-rand|fastest-levenshtein)/.test(id)

/** Files as texts: `import text from './file.css?raw'`, as Vite has it. */
const raw_texts = {
  name: 'raw texts',
  resolveId(id, importer) {
    if (!id.endsWith('?raw')) return null
    const file = id.slice(0, -4)
    return file.startsWith('.')
      ? `\0raw:${join(dirname(importer), file)}`
      : `\0raw:${createRequire(join(root, 'package.json')).resolve(file)}`
  },
  load: (id) =>
    id.startsWith('\0raw:')
      ? { code: `export default ${JSON.stringify(readFileSync(id.slice(5), 'utf8'))}`, moduleType: 'js' }
      : null,
}

async function bundle({ input, output, platform, plugins = [] }) {
  const build = await rolldown({
    input,
    platform,
    external: platform === 'node' ? installed : [],
    plugins: [raw_texts, ...plugins],
    checks: { pluginTimings: false, bundlerTimings: false },
    cwd: root,
    // The source says what it keeps; an import for its effect alone is kept too.
    treeshake: { moduleSideEffects: true },
    onLog(level, log, handle) {
      if (level === 'warn') throw new Error(`rolldown: ${log.message}`)
      handle(level, log)
    },
  })
  await build.write({ dir: STAGE, chunkFileNames: '[name]-[hash].js', sourcemap: false, ...output })
  await build.close()
}

const node = 'ts/entry/node.ts'
const browser = 'ts/entry/browser.ts'
const cli = 'ts/cli/main.ts'
const esm = { format: 'esm', entryFileNames: '[name].js' }

/** Makes dist/ anew. */
async function make_dist(work) {
  rmSync(STAGE, { recursive: true, force: true })
  mkdirSync(STAGE, { recursive: true })
  await work()
  chmodSync(join(STAGE, 'cli.js'), 0o755)
  for (const file of EMBEDDED) cpSync(join(root, 'ts/assets/g2p', file), join(STAGE, 'assets/g2p', file))
  rmSync(DIST, { recursive: true, force: true })
  renameSync(STAGE, DIST)
}

async function bundle_all() {
  await bundle({
    input: { node, cli, wasm_worker_node: 'ts/backend/wasm_worker_node.ts' },
    output: esm,
    platform: 'node',
  })
  await bundle({
    input: { node },
    output: { format: 'cjs', entryFileNames: '[name].cjs', chunkFileNames: '[name]-[hash].cjs' },
    platform: 'node',
  })
  // What a page without a bundler loads; bundlers find what is unused all the same.
  // Models, tokenizers and what they need are one piece, which the chunks that are loaded later share: a page's own
  // bundler cannot join what comes in pieces, and pieces compress worse.
  const common = { name: 'common', test: /\/ts\/(?:models\/switch_transformers|tokenizer\/auto)\.ts$/ }
  await bundle({
    input: { browser },
    output: { ...esm, minify: true, codeSplitting: { groups: [common] } },
    platform: 'browser',
  })
  await bundle({
    input: { wasm_worker: 'ts/backend/wasm_worker.ts' },
    output: { ...esm, minify: true },
    platform: 'browser',
  })
  for (const [name, input] of Object.entries({ node, browser })) {
    const types = dts({ emitDtsOnly: true, tsconfig: join(root, 'tsconfig.json'), sourcemap: false })
    await bundle({
      input: { [name]: input },
      output: { format: 'esm', entryFileNames: '[name].js' },
      platform: 'node',
      plugins: [types],
    })
  }
  copyFileSync(join(STAGE, 'node.d.ts'), join(STAGE, 'node.d.cts'))
  for (const [name, built] of Object.entries(wasm_modules)) copyFileSync(join(root, built), join(STAGE, name))
}

const SOURCES = ['ts', 'package.json', 'tsconfig.json', 'scripts/build_ts.mjs']

export async function build_ts() {
  return step(
    'TypeScript bundles',
    {
      inputs: [...SOURCES, 'bindings/wasm/pkg'],
      outputs: [
        'node.js',
        'node.cjs',
        'node.d.ts',
        'node.d.cts',
        'browser.js',
        'browser.d.ts',
        'cli.js',
        'switch_transformers.wasm',
      ].map((file) => `dist/${file}`),
    },
    () => make_dist(bundle_all),
  )
}

/** The command line and the Node entry alone, which need no WASM module. */
export async function build_command_line() {
  return step('command line', { inputs: SOURCES, outputs: ['dist/cli.js', 'dist/node.js'] }, () =>
    make_dist(() => bundle({ input: { node, cli }, output: esm, platform: 'node' })),
  )
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(build_ts)

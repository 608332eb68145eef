import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { create_project, type Packed, pack, root, run, succeed } from './project.js'

let packed: Packed

beforeAll(() => {
  packed = pack()
})

afterAll(() => {
  // Nothing to remove where packing failed.
  if (packed) rmSync(packed.folder, { recursive: true, force: true })
})

/** What the reference generates from the embedded model for `hello`, greedily and with 4 beams. */
const HELLO = 'HH EH1 L OW0'

const USE = `
async function use({ AutoTokenizer, SwitchTransformersForConditionalGeneration }) {
  const folder = './node_modules/switch-transformers/dist/assets/g2p'
  const tokenizer = await AutoTokenizer.from_pretrained(folder)
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { dtype: 'float32' })
  const ids = await model.generate({ ...tokenizer('hello'), max_new_tokens: 20 })
  console.log(model.backend, tokenizer.batch_decode(ids, { skip_special_tokens: true })[0])
  await model.dispose()
  process.exit(0)
}
`

describe('the packed package', () => {
  it('holds the bundles, the WASM module, the embedded model, the guides, licences and no sources', () => {
    expect(packed.files).toEqual(
      expect.arrayContaining([
        'package.json',
        'README.md',
        'docs/guide.md',
        'LICENSE-APACHE',
        'LICENSE-MIT',
        'dist/node.js',
        'dist/node.cjs',
        'dist/node.d.ts',
        'dist/node.d.cts',
        'dist/browser.js',
        'dist/browser.d.ts',
        'dist/cli.js',
        'dist/wasm_worker.js',
        'dist/wasm_worker_node.js',
        'dist/switch_transformers.wasm',
        'dist/assets/g2p/config.json',
        'dist/assets/g2p/model.safetensors',
        'dist/assets/g2p/tokenizer.json',
      ]),
    )
    expect(packed.files.filter((path) => !/^(dist\/|docs\/|LICENSE|README\.md$|package\.json$)/.test(path))).toEqual([])
  })

  it('passes publint', () => {
    const outcome = run(root, process.execPath, ['node_modules/publint/src/cli.js', packed.main, '--strict'])
    expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ status: 0 })
  })

  it('has types that resolve in every module system', () => {
    const outcome = run(root, process.execPath, ['node_modules/@arethetypeswrong/cli/dist/index.js', packed.main])
    expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ status: 0 })
  })

  it('keeps native code and Node out of the browser entry', () => {
    const entry = succeed(root, 'tar', ['-xzOf', packed.main, 'package/dist/browser.js', 'package/dist/wasm_worker.js'])
    expect(entry).not.toMatch(/from ["']node:|require\(|\.node["'`]/)
  })
})

describe('installed with the package of its platform', () => {
  const folder = () => join(packed.folder, 'native')

  beforeAll(() => {
    create_project(folder(), [packed.main, packed.platform], {
      'esm.mjs': `import * as library from 'switch-transformers'\n${USE}\nawait use(library)\n`,
      'cjs.cjs': `const library = require('switch-transformers')\n${USE}\nuse(library)\n`,
      'types.mts': TYPES,
      'types.cts': TYPES,
    })
  })

  it('runs as an ES module', () => {
    expect(succeed(folder(), process.execPath, ['esm.mjs'])).toBe(`native ${HELLO}\n`)
  })

  it('runs as CommonJS', () => {
    expect(succeed(folder(), process.execPath, ['cjs.cjs'])).toBe(`native ${HELLO}\n`)
  })

  it.each(['node16', 'nodenext'])('has types under module %s, imported and required', (module) => {
    const outcome = run(folder(), process.execPath, [
      `${root}node_modules/typescript/bin/tsc`,
      ...['--noEmit', '--strict', '--module', module, '--target', 'es2022', '--lib', 'es2023,esnext.disposable,dom'],
      ...['--skipLibCheck', 'false', 'types.mts', 'types.cts'],
    ])
    expect(outcome, outcome.stdout).toMatchObject({ status: 0 })
  })

  it('runs as a command', () => {
    expect(succeed(folder(), 'npx', ['switch-transformers', 'generate', 'hello'])).toBe(`${HELLO}\n`)
  })
})

const TYPES = `
import { AutoTokenizer, SwitchTransformersForConditionalGeneration, type Tensor } from 'switch-transformers'

export async function translate(text: string): Promise<string[]> {
  const tokenizer = await AutoTokenizer.from_pretrained('google/switch-base-8')
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained('google/switch-base-8')
  const ids: Tensor = await model.generate({ ...tokenizer(text), max_new_tokens: 20 })
  // @ts-expect-error no such option
  await model.generate({ ...tokenizer(text), max_newtokens: 20 })
  return tokenizer.batch_decode(ids, { skip_special_tokens: true })
}
`

describe('installed where no addon fits the platform', () => {
  const folder = () => join(packed.folder, 'wasm')

  it('falls back to WASM', () => {
    create_project(folder(), [packed.main], {
      'esm.mjs': `import * as library from 'switch-transformers'\n${USE}\nawait use(library)\n`,
    })
    expect(existsSync(join(folder(), 'node_modules', `switch-transformers-${packed.platform_name}`))).toBe(false)
    expect(succeed(folder(), process.execPath, ['esm.mjs'])).toBe(`wasm ${HELLO}\n`)
  })
})

describe('in a clone', () => {
  it('is what its own name imports from the root', () => {
    const script = "import('switch-transformers').then((library) => console.log(typeof library.AutoTokenizer))"
    expect(succeed(root, process.execPath, ['-e', script])).toBe('function\n')
  })

  it('is what npx runs from the root', () => {
    expect(succeed(root, 'npx', ['switch-transformers', 'generate', 'hello'])).toBe(`${HELLO}\n`)
  })
})

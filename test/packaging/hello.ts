/** What every page under test does: pronounce a word with the embedded model, served at `/model`. */

import { cpSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'

/** What the reference generates, and by which backend. */
export const HELLO = 'wasm HH EH1 L OW0'

/** A module that defines `say()`. */
export const SAY = `
import { AutoTokenizer, SwitchTransformersForConditionalGeneration } from 'switch-transformers'

async function say() {
  const tokenizer = await AutoTokenizer.from_pretrained('/model')
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained('/model')
  const ids = await model.generate({ ...tokenizer('hello'), max_new_tokens: 20 })
  return model.backend + ' ' + tokenizer.batch_decode(ids, { skip_special_tokens: true })[0]
}
`

/** Copies the embedded model of the package that is installed in `project` to `to`. */
export function copy_model(project: string, to: string): void {
  cpSync(join(project, 'node_modules/switch-transformers/dist/assets/g2p'), to, { recursive: true })
}

/** What is served holds no trace of Node or of native code. */
export function expect_no_native_code(folder: string): void {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  expect(files.filter((file) => file.endsWith('.node'))).toEqual([])
  for (const file of files.filter((file) => /\.m?js$/.test(file))) {
    expect(readFileSync(join(folder, file), 'utf8'), file).not.toMatch(/["'`]node:|createRequire|\.node["'`]/)
  }
}

/** The packed package in Deno and Bun, whose binaries npm has for the common platforms. */

import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { create_project, type Packed, pack, succeed } from './project.js'

/** What the reference generates. */
const HELLO = 'HH EH1 L OW0'

/** No exit at the end: a program must be able to end by itself. */
const SCRIPT = `
import { AutoTokenizer, SwitchTransformersForConditionalGeneration } from 'switch-transformers'

const folder = './node_modules/switch-transformers/dist/assets/g2p'
const tokenizer = await AutoTokenizer.from_pretrained(folder)
const model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder, { backend: process.argv[2] })
let text = ''
for await (const part of model.stream(tokenizer('hello'), { tokenizer, max_new_tokens: 20 })) text += part.text
const refused = await model.generate({ input_ids: [[99999]] }).catch((error) => error.code)
await model.dispose()
console.log(model.backend, text, refused)
`

let packed: Packed

beforeAll(() => {
  packed = pack()
})

afterAll(() => {
  if (packed) rmSync(packed.folder, { recursive: true, force: true })
})

describe.each([
  ['deno', ['run', '--allow-read', '--allow-env', '--allow-sys', '--allow-ffi']],
  ['bun', ['run']],
] as const)('%s', (runtime, flags) => {
  const folder = () => join(packed.folder, runtime)
  const run_script = (backend: string) => succeed(folder(), 'npx', [runtime, ...flags, 'use.mjs', backend])

  beforeAll(() => {
    create_project(folder(), [packed.main, packed.platform, runtime], { 'use.mjs': SCRIPT })
  })

  it.each(['native', 'wasm'])('runs the %s backend', (backend) => {
    expect(run_script(backend)).toBe(`${backend} ${HELLO} INVALID_INPUT\n`)
  })
})

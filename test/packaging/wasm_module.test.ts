import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import budgets from './budgets.json'

const root = fileURLToPath(new URL('../../', import.meta.url))
const module_path = `${root}dist/switch_transformers.wasm`

describe('budgets', () => {
  it.each(Object.entries(budgets))('%s stays within its budget', (file, { gzip_bytes }) => {
    expect(gzipSync(readFileSync(root + file), { level: 9 }).length).toBeLessThanOrEqual(gzip_bytes)
  })
})

describe('the default WASM module', () => {
  const text = execFileSync(
    process.execPath,
    [`${root}node_modules/binaryen/bin/wasm-dis`, '--all-features', module_path],
    {
      encoding: 'utf8',
      maxBuffer: 1 << 30,
    },
  )
  const opcodes = new Set(text.match(/\b[a-z]\w+\.[a-z]\w*/g))

  it('uses SIMD128', () => {
    expect([...opcodes]).toContain('f32x4.mul')
  })

  it('has no relaxed SIMD, without which Safari runs it', () => {
    expect([...opcodes].filter((opcode) => /relaxed|_dot_i8x16_i7x16/.test(opcode))).toEqual([])
  })

  it('has no threads: neither atomics nor shared memory', () => {
    expect([...opcodes].filter((opcode) => /atomic/.test(opcode))).toEqual([])
    expect(text).not.toMatch(/\(memory [^)]*shared/)
  })

  it('imports nothing but what its glue gives', async () => {
    const imports = WebAssembly.Module.imports(await WebAssembly.compile(readFileSync(module_path)))
    expect(new Set(imports.map(({ module }) => module))).toEqual(new Set(['./switch_transformers_bg.js']))
  })
})

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** The module's text, disassembled, and the instructions in it. */
function disassembled(file: string) {
  const tool = `${root}node_modules/binaryen/bin/wasm-dis`
  const options = { encoding: 'utf8' as const, maxBuffer: 1 << 30 }
  const text = execFileSync(process.execPath, [tool, '--all-features', root + file], options)
  return { text, opcodes: new Set(text.match(/\b[a-z]\w+\.[a-z][\w.]*/g)) }
}

describe('the default WASM module', () => {
  const module_path = `${root}dist/switch_transformers.wasm`
  const { text, opcodes } = disassembled('dist/switch_transformers.wasm')

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

describe('the module with threads', () => {
  const { text, opcodes } = disassembled('dist/switch_transformers_threads.wasm')

  it('waits and notifies over shared memory that it is given', () => {
    expect([...opcodes]).toEqual(expect.arrayContaining(['f32x4.mul', 'memory.atomic.wait32', 'memory.atomic.notify']))
    expect(text).toMatch(/\(import "[^"]*" "memory" \(memory [^)]*shared/)
  })

  it('has no relaxed SIMD', () => {
    expect([...opcodes].filter((opcode) => /relaxed|_dot_i8x16_i7x16/.test(opcode))).toEqual([])
  })
})

describe('the module with relaxed SIMD', () => {
  const { opcodes } = disassembled('dist/switch_transformers_relaxed.wasm')

  it('fuses multiplication and addition, and has threads', () => {
    expect([...opcodes]).toEqual(expect.arrayContaining(['f32x4.relaxed_madd', 'memory.atomic.wait32']))
  })
})

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

/** By their names in a module's own list. */
const FIRST_FEATURES = new Set([
  ...['simd128', 'bulk-memory', 'bulk-memory-opt', 'mutable-globals', 'nontrapping-fptoint', 'sign-ext'],
  // A longer way to write a table's number, which a compiler of 1.96 may use; wasm-opt writes the module anew without it.
  'call-indirect-overlong',
])

/** What a module says that it needs: its section "target_features", names with `+` before them. */
function features(path: string): string[] {
  const module = new WebAssembly.Module(readFileSync(path))
  return WebAssembly.Module.customSections(module, 'target_features').flatMap((section) =>
    [...new TextDecoder('latin1').decode(section).matchAll(/\+[^a-z]*([a-z][a-z0-9-]+)/g)].map(
      ([, name]) => name as string,
    ),
  )
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

  /**
   * Chrome 91, Firefox 89 and Safari 16.4 are the first with SIMD128. All of them have bulk memory, sign extension,
   * saturating conversions and mutable globals; Chrome 91 has no reference types (96), no exceptions (95), no tail calls
   * (112).
   */
  it('needs nothing that the first engines with SIMD128 lack', () => {
    const numbers = /^(?:[if](?:32|64)|v128|i8x16|i16x8|i32x4|i64x2|f32x4|f64x2)\./
    const others = new Set([
      ...['local.get', 'local.set', 'local.tee', 'global.get', 'global.set', 'data.drop'],
      ...['memory.size', 'memory.grow', 'memory.copy', 'memory.fill', 'memory.init'],
    ])
    const code = text.replace(/"(?:[^"\\]|\\.)*"|\$[^\s()]+/g, '')
    const found = new Set(code.match(/\b[a-z]\w+\.[a-z][\w.]*/g))
    expect([...found].filter((opcode) => !numbers.test(opcode) && !others.has(opcode))).toEqual([])
    expect(
      code.match(/\b(?:externref|anyref|exnref|ref null|return_call\w*|call_ref|try_table|throw\w*|select \()/),
    ).toBeNull()
    // One result a function, one memory of 32 bits, one table of functions.
    expect(code.match(/\(result \w+ \w+/)).toBeNull()
    expect(code.match(/\(memory [^)]*i64/)).toBeNull()
    expect(code.match(/^ \((?:memory|import .*\(memory) /gm)).toHaveLength(1)
    expect(code.match(/^ \(table [^)]*\)?/gm)?.filter((table) => !/funcref/.test(table))).toEqual([])
    expect(features(module_path).filter((name) => !FIRST_FEATURES.has(name))).toEqual([])
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

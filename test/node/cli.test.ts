import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FIXTURES, run_cli } from './cli.js'

const BASE = path.join(FIXTURES, 'parity/base')

let folder: string
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'cli-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Windows ends a child at once instead of signalling it. */
const NO_SIGNALS = process.platform === 'win32'

const ONE_ERROR = /^error \[[A-Z_]+\]: [^\n]+\n$/

describe('the command line', () => {
  test('says its version, and what it can do', async () => {
    expect((await run_cli(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
    const help = await run_cli(['--help'])
    expect(help.code).toBe(0)
    for (const command of ['generate', 'inspect', 'init', 'verify']) expect(help.stdout).toContain(command)
    expect(help.stdout).toContain('Exit codes')
  })

  test.each([
    ['an unknown command', ['generat']],
    ['an unknown option', ['generate', 'x', '--nope']],
    ['a value of the wrong type', ['generate', 'x', '--top-k', 'many']],
    ['a value that is no choice', ['generate', 'x', '--backend', 'abacus']],
    ['an option without a value', ['verify', BASE, '--tolerance']],
    ['a missing argument', ['verify']],
    ['an option that is no generation option', ['generate', 'x', '--option', 'nonsense=1']],
    ['an impossible option', ['generate', 'x', '--num-beams', '0']],
    ['a model that is not there', ['generate', 'x', '--model', '/no/such/folder']],
    ['a repository that is not in the cache', ['inspect', 'nobody/nothing', '--local-files-only']],
    ['a device that is not there', ['generate', 'x', '--device', 'tpu']],
  ])('%s is one line of error and exit code 2', async (_, args) => {
    const { code, stdout, stderr } = await run_cli(args, { env: { HF_HOME: folder } })
    expect(stderr).toMatch(ONE_ERROR)
    expect(stdout).toBe('')
    expect(code).toBe(2)
  })

  test('SWITCH_DEBUG adds the stack', async () => {
    const { code, stderr } = await run_cli(['generate', 'x', '--model', '/no/such/folder'], {
      env: { SWITCH_DEBUG: '1' },
    })
    expect(code).toBe(2)
    expect(stderr).toMatch(/^error \[FILE_NOT_FOUND\][^\n]*\n[\s\S]*\n {4}at /)
  })

  test('output that nobody reads ends it quietly', async () => {
    const { stderr, signal } = await run_cli(['verify', path.join(FIXTURES, 'parity')], {
      on_start: (child) => child.stdout?.once('data', () => child.stdout?.destroy()),
    })
    expect(stderr).toBe('')
    expect(signal).toBeNull()
  })
})

describe('generate', () => {
  test('uses the embedded model when none is named', async () => {
    const { code, stdout, stderr } = await run_cli(['generate', 'hello'])
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'HH EH1 L OW0\n', stderr: '' })
  })

  test.each(['native', 'wasm'])('gives a line for each line of standard input (%s)', async (backend) => {
    const args = ['generate', '--backend', backend, '--batch-size', '2']
    const { code, stdout } = await run_cli(args, { input: 'hello\r\nabdominal\na\n\nabela' })
    expect(code).toBe(0)
    const lines = stdout.split('\n')
    expect(lines).toHaveLength(6)
    expect(lines[0]).toBe('HH EH1 L OW0')
    expect(lines[1]).toBe('AE0 B D AA1 M AH0 N AH0 L')
    expect(lines[4]).toBe('AH0 B EH1 L AH0')
  })

  test('no input gives no output', async () => {
    const { code, stdout } = await run_cli(['generate'])
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' })
  })

  test('stands bytes that are no text', async () => {
    const { code, stdout } = await run_cli(['generate'], { input: new Uint8Array([0xff, 0xfe, 0x00, 0x0a, 0xc3]) })
    expect(code).toBe(0)
    expect(stdout.split('\n')).toHaveLength(3)
  })

  test('--json gives one object per text, with scores of beams', async () => {
    const args = ['generate', 'hello', 'abela', '--json', '--num-beams', '4', '--num-return-sequences', '2']
    const { stdout } = await run_cli(args)
    const objects = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(objects.map(({ text }) => text)).toEqual(['hello', 'abela'])
    expect(objects[0].outputs).toHaveLength(2)
    expect(objects[0].outputs[0].text).toBe('HH EH1 L OW0')
    expect(objects[0].outputs[0].token_ids).toEqual([0, 65, 55, 74, 78, 1])
    expect(objects[0].outputs[0].score).toBeGreaterThan(objects[0].outputs[1].score)
  })

  test('generation options come as flags or by name', async () => {
    const short = await run_cli(['generate', 'hello', '--max-new-tokens', '2'])
    expect(short.stdout).toBe('HH EH1\n')
    const named = await run_cli(['generate', 'hello', '--option', 'max_new_tokens=2'])
    expect(named.stdout).toBe('HH EH1\n')
    const sample = ['generate', 'hello', '--do-sample', '--temperature', '3', '--seed', '5']
    expect((await run_cli(sample)).stdout).toBe((await run_cli([...sample, '--backend', 'wasm'])).stdout)
  })

  test("--routes shows each token's expert at each sparse layer, as the reference's router logits say", async () => {
    const { stdout } = await run_cli(['generate', 'hello', '--routes'])
    const cells = stdout.split('\n').map((line) => line.trim().split(/ {2,}/))
    expect(cells.slice(2, 9)).toEqual([
      ['encoder', 'layer 1', 'layer 3'],
      ['h', 'expert 7', 'expert 1'],
      ['e', 'expert 7', 'expert 0'],
      ['l', 'expert 6', 'expert 5'],
      ['l', 'expert 6', 'expert 5'],
      ['o', 'expert 4', 'expert 2'],
      ['</s>', 'expert 7', 'expert 5'],
    ])
    expect(cells.slice(9, 15)).toEqual([
      ['decoder', 'layer 1', 'layer 3'],
      ['<pad>', 'expert 0', 'expert 3'],
      ['HH', 'expert 3', 'expert 6'],
      ['EH1', 'expert 1', 'expert 4'],
      ['L', 'expert 7', 'expert 5'],
      ['OW0', 'expert 1', 'expert 4'],
    ])
    const { stdout: json } = await run_cli(['generate', 'hello', '--routes', '--json'])
    const { encoder, decoder } = JSON.parse(json).outputs[0].routes
    expect(encoder.layers).toEqual([
      { layer: 1, experts: [7, 7, 6, 6, 4, 7] },
      { layer: 3, experts: [1, 0, 5, 5, 2, 5] },
    ])
    expect(decoder.ids).toEqual([0, 65, 55, 74, 78])
  })
})

describe('inspect', () => {
  test('describes a checkpoint for people and for programs', async () => {
    const text = await run_cli(['inspect', BASE])
    expect(text.code).toBe(0)
    expect(text.stdout).toMatch(/layers +encoder 4, of which 2 sparse \(1 3\); decoder 4, of which 2 sparse \(1 3\)/)
    expect(text.stdout).toMatch(/experts +4 per sparse layer/)
    expect(text.stdout).toContain('115,904')
    const summary = JSON.parse((await run_cli(['inspect', BASE, '--json', '--backend', 'wasm'])).stdout)
    expect(summary).toMatchObject({
      parameters: 115904,
      parameters_active: 79040,
      experts: 4,
      bytes: 476752,
      faults: [],
      dtypes: { F32: { tensors: 117 } },
      config: { d_model: 32, num_heads: 4 },
    })
    expect(summary.tensors).toBeUndefined()
  })

  test('--tensors lists them; shards, pickles and single files are read too', async () => {
    const { stdout } = await run_cli(['inspect', path.join(FIXTURES, 'parity/sharded-pickle'), '--tensors', '--json'])
    const summary = JSON.parse(stdout)
    expect(summary.files).toHaveLength(9)
    expect(summary.parameters).toBe(115904)
    const shared = summary.tensors.find(({ name }: { name: string }) => name === 'shared.weight')
    expect(shared.shape).toEqual([120, 32])
    const file = await run_cli(['inspect', path.join(BASE, 'expected.safetensors'), '--tensors'])
    expect(file.stdout).toMatch(/logits +F32 +\[3, 7, 120\]/)
  })

  test.each([
    ['an empty file', new Uint8Array()],
    ['a header that is longer than the file', new Uint8Array([255, 255, 255, 255, 255, 255, 255, 127, 123])],
    ['text', new TextEncoder().encode('not a checkpoint at all')],
  ])('%s is an error, not a crash', async (name, bytes) => {
    const file = path.join(folder, `${name.replaceAll(' ', '-')}.safetensors`)
    writeFileSync(file, bytes)
    const { code, stderr } = await run_cli(['inspect', file])
    expect(stderr).toMatch(/^error \[CHECKPOINT_\w+\]: [^\n]+\n$/)
    expect(code).toBe(2)
  })
})

describe('init', () => {
  const TINY = { ...JSON.parse(readFileSync(path.join(BASE, 'config.json'), 'utf8')), num_experts: 3 }

  test('writes a checkpoint that loads, the same for the same seed', async () => {
    const config = path.join(folder, 'tiny.json')
    writeFileSync(config, JSON.stringify(TINY))
    const write = async (name: string, ...more: string[]) => {
      const out = path.join(folder, name)
      const { code, stderr, stdout } = await run_cli(['init', out, '--config', config, '--json', ...more])
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      return { out, result: JSON.parse(stdout), bytes: readFileSync(path.join(out, 'model.safetensors')) }
    }
    const a = await write('a', '--seed', '1')
    const b = await write('b', '--seed', '1', '--backend', 'wasm')
    const c = await write('c', '--seed', '2')
    expect(a.bytes.equals(b.bytes)).toBe(true)
    expect(a.bytes.equals(c.bytes)).toBe(false)
    expect(readdirSync(a.out).sort()).toEqual(['config.json', 'generation_config.json', 'model.safetensors'])
    const summary = JSON.parse((await run_cli(['inspect', a.out, '--json'])).stdout)
    expect(summary.parameters).toBe(a.result.parameters)
    expect(summary.experts).toBe(3)
  })

  test('--dtype and --max-shard-size are obeyed', async () => {
    const config = path.join(folder, 'sharded.json')
    writeFileSync(config, JSON.stringify(TINY))
    const out = path.join(folder, 'sharded')
    await run_cli(['init', out, '--config', config, '--dtype', 'bfloat16', '--max-shard-size', '60KB'])
    const summary = JSON.parse((await run_cli(['inspect', out, '--json'])).stdout)
    expect(summary.files.length).toBeGreaterThan(2)
    expect(Object.keys(summary.dtypes)).toEqual(['BF16'])
  })

  test('refuses what it should not overwrite, what is no config and what does not fit', async () => {
    const full = path.join(folder, 'full')
    mkdirSync(full)
    writeFileSync(path.join(full, 'precious'), '')
    const bad = path.join(folder, 'bad.json')
    writeFileSync(bad, '{"d_model": -1, "num_experts": "many"}')
    const huge = path.join(folder, 'huge.json')
    writeFileSync(huge, JSON.stringify({ d_model: 65536, num_experts: 4096, d_ff: 65536 }))
    const cases: [string[], RegExp][] = [
      [['init', full, '--size', 'base-8'], /\[USAGE\].*not empty/],
      [['init', bad, '--size', 'base-8'], /\[USAGE\].*not a folder/],
      [['init', path.join(folder, 'x')], /\[USAGE\].*--size/],
      [['init', path.join(folder, 'x'), '--config', bad], /\[INVALID_CONFIG\].*d_model.*num_experts/],
      [['init', path.join(folder, 'x'), '--config', path.join(folder, 'none.json')], /\[FILE_NOT_FOUND\]/],
      [['init', path.join(folder, 'x'), '--config', huge], /\[(OUT_OF_MEMORY|INVALID_CONFIG)\]/],
    ]
    for (const [args, message] of cases) {
      const { code, stderr } = await run_cli(args)
      expect(stderr).toMatch(message)
      expect(code).toBe(2)
    }
    expect(existsSync(path.join(folder, 'x'))).toBe(false)
    expect(readdirSync(full)).toEqual(['precious'])
  })

  test.skipIf(NO_SIGNALS)('an interrupt leaves nothing behind', async () => {
    const config = path.join(folder, 'large.json')
    // About 100 M parameters: long enough to be interrupted.
    writeFileSync(config, JSON.stringify({ ...TINY, d_model: 512, d_ff: 2048, num_experts: 8, vocab_size: 32128 }))
    const out = path.join(folder, 'interrupted')
    const { code, stderr, stdout } = await run_cli(['init', out, '--config', config], {
      on_start: (child) => setTimeout(() => child.kill('SIGINT'), 700),
    })
    expect({ code, stderr, stdout }).toEqual({ code: 130, stderr: '', stdout: '' })
    expect(existsSync(out)).toBe(false)
  })
})

test.skipIf(NO_SIGNALS)('an interrupt ends a command that waits for input', async () => {
  const { code, stdout, stderr } = await run_cli(['generate', '--batch-size', '1'], {
    input: 'hello\n',
    keep_open: true,
    on_start: (child) => child.stdout?.once('data', () => child.kill('SIGINT')),
  })
  expect({ code, stdout, stderr }).toEqual({ code: 130, stdout: 'HH EH1 L OW0\n', stderr: '' })
})

describe('verify', () => {
  test('passes on a case and prints each tensor with its error', async () => {
    const { code, stdout, stderr } = await run_cli(['verify', BASE])
    expect(stderr).toBe('')
    expect(code).toBe(0)
    expect(stdout).toMatch(/ok +tensor +\d\.\de-\d+ +logits\n/)
    expect(stdout).toMatch(/ok +routing +encoder\.routes\.1\n/)
    expect(stdout).toMatch(/ok +generation +.*num_beams=4/)
    expect(stdout).not.toMatch(/not run|FAILED/)
  })

  test.each(['native', 'wasm'])('passes on every case, routing included (%s)', async (backend) => {
    const paths = [path.join(FIXTURES, 'parity'), path.join(FIXTURES, 'routing/routing-original.json')]
    const { code, stdout } = await run_cli(['verify', ...paths, '--backend', backend, '--json'])
    const report = JSON.parse(stdout)
    expect(report).toMatchObject({ passed: true, backend, dtype: 'float32', tolerance: 1e-5 })
    expect(report.paths).toHaveLength(22)
    const errors = report.paths.flatMap((path: { checks: { kind: string; error?: number }[] }) =>
      path.checks.filter(({ kind }) => kind === 'tensor').map(({ error }) => error),
    )
    expect(errors.length).toBeGreaterThan(250)
    expect(Math.max(...errors)).toBeLessThan(5e-6)
    expect(code).toBe(0)
  })

  test.each(['native', 'wasm'])('passes on processed scores and on tokenizations (%s)', async (backend) => {
    const paths = [path.join(FIXTURES, 'generation/processors.json'), path.join(FIXTURES, 'tokenizer/expected.json')]
    const { code, stdout } = await run_cli(['verify', ...paths, '--backend', backend])
    expect(stdout).toMatch(/passed .*processors\.json +39 of 39\n/)
    // 43 texts, 3 pairs and a batch.
    expect(stdout).toMatch(/passed .*expected\.json +47 of 47\n/)
    expect(code).toBe(0)
  })

  test('--greedy-only lists the others as not run, and passes', async () => {
    const { code, stdout } = await run_cli(['verify', BASE, '--greedy-only'])
    expect(code).toBe(0)
    expect(stdout.match(/^ +not run +generation/gm)).toHaveLength(9)
    expect(stdout).toMatch(/^ +ok +generation +max_new_tokens=12$/m)
  })

  test('a tolerance that is not met is exit code 1', async () => {
    const { code, stdout } = await run_cli(['verify', BASE, '--greedy-only', '--tolerance', '0'])
    expect(code).toBe(1)
    expect(stdout).toMatch(/FAILED +tensor +\d\.\de-\d+ +logits/)
    expect(stdout).toMatch(/0 of 1 passed/)
  })

  test('half precision of weights is measured against its own tolerance', async () => {
    const { code, stdout } = await run_cli([
      'verify',
      path.join(FIXTURES, 'parity/bf16-weights'),
      '--dtype',
      'bfloat16',
      '--json',
    ])
    const report = JSON.parse(stdout)
    expect(report).toMatchObject({ passed: true, dtype: 'bfloat16', tolerance: 2e-3 })
    expect(code).toBe(0)
  })

  describe('what is wrong is found', () => {
    const copy = (name: string): string => {
      const out = path.join(folder, name)
      cpSync(BASE, out, { recursive: true })
      return out
    }
    /** Overwrites float32 values of a tensor in a safetensors file. */
    const poke = (file: string, tensor: string, index: number, value: number): void => {
      const bytes = readFileSync(file)
      const length = Number(bytes.readBigUInt64LE(0))
      const header = JSON.parse(bytes.toString('utf8', 8, 8 + length))
      bytes.writeFloatLE(value, 8 + length + header[tensor].data_offsets[0] + 4 * index)
      writeFileSync(file, bytes)
    }

    test.each(['native', 'wasm'])('NaN weights: where they are and where they first show (%s)', async (backend) => {
      const out = copy(`nan-${backend}`)
      poke(path.join(out, 'model.safetensors'), 'encoder.block.2.layer.0.SelfAttention.q.weight', 33, Number.NaN)
      const { code, stdout } = await run_cli(['verify', out, '--greedy-only', '--backend', backend])
      expect(code).toBe(1)
      expect(stdout).toMatch(
        /FAILED +weights +encoder\.block\.2\.layer\.0\.SelfAttention\.q\.weight: 1 value is not finite, the first at \[1, 1\]: NaN/,
      )
      expect(stdout).toMatch(/origin: the first values that are not finite come out of encoder\.block\.2/)
    })

    test('NaN in an expert that no token reaches', async () => {
      const out = copy('nan-unreached')
      const weights = path.join(out, 'model.safetensors')
      const expert = 'encoder.block.1.layer.1.mlp.experts.expert_0.wo.weight'
      poke(weights, expert, 0, Number.POSITIVE_INFINITY)
      const { code, stdout } = await run_cli(['verify', out, '--greedy-only'])
      expect(code).toBe(1)
      expect(stdout).toContain(`${expert}: 1 value is not finite`)
    })

    test('another weight, another expected value, another expected sequence', async () => {
      const weight = copy('weight')
      poke(path.join(weight, 'model.safetensors'), 'shared.weight', 5 * 32, 3)
      const expected = copy('expected')
      poke(path.join(expected, 'expected.safetensors'), 'encoder.router_logits.0', 0, 9)
      const sequence = copy('sequence')
      const generations = JSON.parse(readFileSync(path.join(sequence, 'generation.json'), 'utf8'))
      generations[0].sequences[0][1] = 72
      generations[1].sequences_scores[0] -= 0.001
      writeFileSync(path.join(sequence, 'generation.json'), JSON.stringify(generations))

      const { code, stdout } = await run_cli(['verify', weight, expected, sequence, BASE, '--json'])
      expect(code).toBe(1)
      const [by_weight, by_expected, by_sequence, good] = JSON.parse(stdout).paths.map(
        ({ checks }: { checks: { name: string; status: string }[] }) =>
          checks.filter(({ status }) => status === 'failed').map(({ name }) => name),
      )
      expect(by_weight).toContain('logits')
      expect(by_expected).toEqual(['encoder.router_logits.0', 'encoder.routes.0'])
      expect(by_sequence).toEqual(['max_new_tokens=12', 'max_new_tokens=12 num_beams=4'])
      expect(good).toEqual([])
    })

    test('a checkpoint that does not load, beside one that does', async () => {
      const out = copy('truncated')
      const weights = path.join(out, 'model.safetensors')
      writeFileSync(weights, readFileSync(weights).subarray(0, -100))
      const broken = copy('broken-expected')
      writeFileSync(path.join(broken, 'expected.safetensors'), 'nonsense')
      const { code, stdout } = await run_cli(['verify', out, broken, BASE, '--greedy-only'])
      expect(code).toBe(1)
      expect(stdout.match(/FAILED +load +.*\[CHECKPOINT_CORRUPT\]/g)).toHaveLength(2)
      expect(stdout).toMatch(/1 of 3 passed/)
    })

    test('a wrong routing decision and weight', async () => {
      const file = path.join(folder, 'routing.json')
      const json = JSON.parse(readFileSync(path.join(FIXTURES, 'routing/routing-original.json'), 'utf8'))
      json.cases[0].expert[0][2] = 0
      json.cases[1].weight[0][1] *= 1.001
      writeFileSync(file, JSON.stringify(json))
      const { code, stdout } = await run_cli(['verify', file])
      expect(code).toBe(1)
      expect(stdout.match(/FAILED +routing/g)).toHaveLength(2)
      expect(stdout).toContain('token 2: expert 1, expected expert 0')
    })
  })

  test.each([
    ['a path that is not there', ['verify', '/no/such/path'], /FILE_NOT_FOUND/],
    [
      'a file of another form',
      ['verify', path.join(FIXTURES, 'parity/base/config.json')],
      /INVALID_INPUT.*no known form/,
    ],
    [
      'a folder without anything to compare',
      ['verify', path.join(FIXTURES, 'g2p')],
      /INVALID_INPUT.*nothing to verify/,
    ],
    ['a negative tolerance', ['verify', BASE, '--tolerance', '-1'], /INVALID_OPTION/],
  ])('%s is exit code 2', async (_, args, message) => {
    const { code, stderr, stdout } = await run_cli(args)
    expect(stderr).toMatch(ONE_ERROR)
    expect(stderr).toMatch(message)
    expect(stdout).toBe('')
    expect(code).toBe(2)
  })
})

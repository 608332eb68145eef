import { CommanderError, InvalidArgumentError } from 'commander'
import { describe, expect, test } from 'vitest'
import { generation_options } from '../../ts/cli/commands/generation_flags.js'
import { failure_of, UsageError } from '../../ts/cli/exit.js'
import { integer_value, key_value, number_value } from '../../ts/cli/flags.js'
import { printable, show_bytes, show_count, show_error, show_integer, table } from '../../ts/cli/format.js'
import { AbortError, ConfigError } from '../../ts/errors.js'

test('numbers are shown short', () => {
  expect(show_bytes(999)).toBe('999 B')
  expect(show_bytes(1234567)).toBe('1.23 MB')
  expect(show_bytes(999_600)).toBe('1 MB')
  expect(show_count(619_339_008)).toBe('619 M')
  expect(show_count(26_309_291_008)).toBe('26.3 B')
  expect(show_integer(1234567)).toBe('1,234,567')
  expect(show_error(0)).toBe('0')
  expect(show_error(3.14e-7)).toBe('3.1e-7')
  expect(show_error(Number.POSITIVE_INFINITY)).toBe('not finite')
})

test('tables line up, wide characters counted twice', () => {
  expect(
    table(
      [
        ['a', 'bb', 'c'],
        ['aaa', 'b', ''],
      ],
      ' ',
    ),
  ).toBe(' a    bb  c\n aaa  b\n')
  expect(
    table([
      ['日本', '|'],
      ['abcd', '|'],
      ['é', '|'],
    ]),
  ).toBe('日本  |\nabcd  |\né     |\n')
  expect(table([])).toBe('')
})

test('control characters of files do not reach the terminal', () => {
  expect(printable('a\u001b[31mb\u0007')).toBe('a\\x1b[31mb\\x07')
})

describe('flags', () => {
  test('integers and numbers', () => {
    expect(integer_value('12')).toBe(12)
    expect(integer_value('-3')).toBe(-3)
    for (const text of ['', '1.5', '1e3', 'x', '0x10', '99999999999999999999']) {
      expect(() => integer_value(text)).toThrowError(InvalidArgumentError)
    }
    expect(number_value('1e-5')).toBe(1e-5)
    for (const text of ['', ' ', 'x', 'NaN', 'Infinity'])
      expect(() => number_value(text)).toThrowError(InvalidArgumentError)
  })

  test('name=json, with text where it is no JSON', () => {
    const options = key_value('early_stopping=never', key_value('bad_words_ids=[[5],[6,7]]', key_value('top_k=5')))
    expect(options).toEqual({ top_k: 5, bad_words_ids: [[5], [6, 7]], early_stopping: 'never' })
    expect(key_value('a=b=c')).toEqual({ a: 'b=c' })
    for (const text of ['top_k', '=5', '1x=2', 'a b=1'])
      expect(() => key_value(text)).toThrowError(InvalidArgumentError)
  })

  test('become generation options under their own names', () => {
    expect(generation_options({ maxNewTokens: 5, doSample: true, topP: 0.5, option: { eta_cutoff: 0.1 } })).toEqual({
      max_new_tokens: 5,
      do_sample: true,
      top_p: 0.5,
      eta_cutoff: 0.1,
    })
    expect(() => generation_options({ topK: 5, option: { top_k: 6 } })).toThrowError(/top_k is given twice/)
  })
})

describe('failures', () => {
  test('are one line with a code, whatever the message', () => {
    const failure = failure_of(new ConfigError('d_model must be\nan integer.'))
    expect(failure).toEqual({ exit_code: 2, text: 'error [INVALID_CONFIG]: d_model must be an integer.\n' })
    expect(failure_of(new UsageError('give a text.'))).toEqual({ exit_code: 2, text: 'error [USAGE]: give a text.\n' })
    expect(failure_of(new CommanderError(1, 'commander.unknownOption', "error: unknown option '--x'")).text).toBe(
      "error [USAGE]: unknown option '--x'. See --help.\n",
    )
    expect(failure_of('text').text).toBe('error [INTERNAL]: text\n')
  })

  test('an abort is silent and 130, help is silent and 0', () => {
    expect(failure_of(new AbortError())).toEqual({ exit_code: 130, text: '' })
    expect(failure_of(new CommanderError(0, 'commander.helpDisplayed', '(outputHelp)'))).toEqual({
      exit_code: 0,
      text: '',
    })
  })

  test('the stack is there for those who ask', () => {
    expect(failure_of(new ConfigError('x'), true).text).toContain('cli_format.test.ts')
    expect(failure_of(new ConfigError('x')).text).not.toContain('cli_format')
  })
})

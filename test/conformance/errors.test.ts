import { describe, expect, it } from 'vitest'
import * as errors from '../../ts/errors.js'

describe('errors', () => {
  it.each([
    ['INVALID_CONFIG', errors.ConfigError, 'ConfigError'],
    ['INVALID_INPUT', errors.InputError, 'InputError'],
    ['INVALID_OPTION', errors.OptionError, 'OptionError'],
    ['UNSUPPORTED_OPTION', errors.OptionError, 'OptionError'],
    ['CHECKPOINT_CORRUPT', errors.CheckpointError, 'CheckpointError'],
    ['CHECKPOINT_UNSAFE', errors.CheckpointError, 'CheckpointError'],
    ['CHECKPOINT_MISMATCH', errors.CheckpointError, 'CheckpointError'],
    ['CHECKPOINT_UNSUPPORTED', errors.CheckpointError, 'CheckpointError'],
    ['FILE_NOT_FOUND', errors.FileError, 'FileError'],
    ['FILE_READ', errors.FileError, 'FileError'],
    ['OUT_OF_MEMORY', errors.BackendError, 'BackendError'],
    ['ABORTED', errors.AbortError, 'AbortError'],
    ['DISPOSED', errors.DisposedError, 'DisposedError'],
    ['BACKEND_UNAVAILABLE', errors.BackendError, 'BackendError'],
    ['HUB_NETWORK', errors.HubError, 'HubError'],
    ['HUB_NOT_FOUND', errors.HubError, 'HubError'],
    ['HUB_UNAUTHORIZED', errors.HubError, 'HubError'],
    ['HUB_OFFLINE', errors.HubError, 'HubError'],
    ['HUB_INTEGRITY', errors.HubError, 'HubError'],
    ['TOKENIZER_INVALID', errors.TokenizerError, 'TokenizerError'],
    ['INVALID_HANDLE', errors.DisposedError, 'DisposedError'],
    ['INTERNAL', errors.InternalError, 'InternalError'],
  ] as const)('%s crosses the boundary as its class', (code, type, name) => {
    const error = errors.from_wire(JSON.stringify({ code, message: 'what happened', details: { found: 1 } }))
    expect(error).toBeInstanceOf(type)
    expect(error).toBeInstanceOf(errors.SwitchTransformersError)
    expect(error).toMatchObject({ code, name, message: 'what happened', details: { found: 1 } })
  })

  it('covers every code', () => {
    for (const code of errors.ERROR_CODES) expect(errors.error_for_code(code, 'm').code).toBe(code)
  })

  it('keeps what it cannot parse', () => {
    for (const message of ['panicked at …', 'null', '{}', '{"code":"NEW_CODE","message":"m"}', '[1]', '"INTERNAL"']) {
      const error = errors.from_wire(message)
      expect(error).toBeInstanceOf(errors.InternalError)
      expect(error.message).toContain(message)
    }
  })

  it('leaves out details that are not there', () => {
    expect(errors.from_wire('{"code":"INTERNAL","message":"m","details":null}').details).toBeUndefined()
  })

  it('turns a fired signal into an AbortError with its reason', () => {
    const controller = new AbortController()
    errors.throw_if_aborted(controller.signal)
    expect(() => errors.throw_if_aborted(controller as never)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION' }),
    )
    controller.abort('enough')
    expect(() => errors.throw_if_aborted(controller.signal)).toThrow(
      expect.objectContaining({ name: 'AbortError', code: 'ABORTED', cause: 'enough' }),
    )
  })
})

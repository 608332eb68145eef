/**
 * Every error that the library throws on purpose: a stable `code` for programs, a message for people that says what was
 * found, what was expected and what to do, and `details` with the figures behind it.
 *
 * The same codes are used in Rust; they cross the boundary as the JSON of `WireError` and become classes again here.
 */

import type { WireError } from './backend/contract.js'

/**
 * Stable codes, each with the class of its errors. They are part of the public API: a code is never renamed, and its meaning
 * never changes. (The classes' names are written out because minifiers rename classes.)
 */
const CLASS_NAMES = {
  /** A model config with a missing, mistyped or impossible value. */
  INVALID_CONFIG: 'ConfigError',
  /** Ids, masks, tensors or text that a call cannot take. */
  INVALID_INPUT: 'InputError',
  /** An option with a wrong value, or options that contradict each other. */
  INVALID_OPTION: 'OptionError',
  /** An option that is known but not implemented. */
  UNSUPPORTED_OPTION: 'OptionError',
  /** A checkpoint file that is truncated, or whose header contradicts its contents. */
  CHECKPOINT_CORRUPT: 'CheckpointError',
  /** A pickle file that asks for more than tensors. Nothing in it was executed. */
  CHECKPOINT_UNSAFE: 'CheckpointError',
  /** Tensors that are missing, unexpected or of another shape than the config implies. */
  CHECKPOINT_MISMATCH: 'CheckpointError',
  /** A checkpoint in a format or dtype that cannot be read. */
  CHECKPOINT_UNSUPPORTED: 'CheckpointError',
  /** A file that is not there. */
  FILE_NOT_FOUND: 'FileError',
  /** A file that is there but cannot be read or written. */
  FILE_READ: 'FileError',
  /** Not enough memory, or more than the backend can address. */
  OUT_OF_MEMORY: 'BackendError',
  /** The caller's `AbortSignal` fired. */
  ABORTED: 'AbortError',
  /** Something was used after `dispose()`. */
  DISPOSED: 'DisposedError',
  /** No backend fits this machine or this engine, or the one asked for does not. */
  BACKEND_UNAVAILABLE: 'BackendError',
  /** The hub could not be reached or answered with an error. */
  HUB_NETWORK: 'HubError',
  /** No such repository, revision or file on the hub. */
  HUB_NOT_FOUND: 'HubError',
  /** The hub wants another token. */
  HUB_UNAUTHORIZED: 'HubError',
  /** A download would be needed, but only local files are allowed. */
  HUB_OFFLINE: 'HubError',
  /** A downloaded file has the wrong size or hash. */
  HUB_INTEGRITY: 'HubError',
  /** A tokenizer file that is malformed. */
  TOKENIZER_INVALID: 'TokenizerError',
  /** A loss or a gradient that is not a number any more, or infinite. */
  TRAINING_DIVERGED: 'TrainingError',
  /** A handle that the backend does not know. */
  INVALID_HANDLE: 'DisposedError',
  /** A bug in the library. */
  INTERNAL: 'InternalError',
} as const

export type ErrorCode = keyof typeof CLASS_NAMES

/** Every code. */
export const ERROR_CODES = Object.keys(CLASS_NAMES) as readonly ErrorCode[]

export interface ErrorOptions {
  /** Figures for programs: what was found, limits, lists of names. Plain JSON values. */
  details?: unknown
  /** The error that led to this one. */
  cause?: unknown
}

/** The base of every error that the library throws. */
export class SwitchTransformersError<Code extends ErrorCode = ErrorCode> extends Error {
  readonly code: Code
  readonly details?: unknown

  constructor(code: Code, message: string, options: ErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.name = CLASS_NAMES[code]
    this.code = code
    if (options.details !== undefined && options.details !== null) this.details = options.details
  }
}

/** A config with a missing, mistyped or impossible value. `details` lists every fault where several were found. */
export class ConfigError extends SwitchTransformersError<'INVALID_CONFIG'> {
  constructor(message: string, options?: ErrorOptions) {
    super('INVALID_CONFIG', message, options)
  }
}

/** Ids, masks, tensors or text that a call cannot take. */
export class InputError extends SwitchTransformersError<'INVALID_INPUT'> {
  constructor(message: string, options?: ErrorOptions) {
    super('INVALID_INPUT', message, options)
  }
}

export type OptionErrorCode = 'INVALID_OPTION' | 'UNSUPPORTED_OPTION'

/** An option with a wrong value, one that contradicts another, or one that is not implemented. */
export class OptionError extends SwitchTransformersError<OptionErrorCode> {}

export type CheckpointErrorCode = Extract<ErrorCode, `CHECKPOINT_${string}`>

/** A checkpoint that is damaged, unsafe, of another model or of a format that cannot be read. */
export class CheckpointError extends SwitchTransformersError<CheckpointErrorCode> {}

export type FileErrorCode = Extract<ErrorCode, `FILE_${string}`>

/** A file that is missing or cannot be read. */
export class FileError extends SwitchTransformersError<FileErrorCode> {}

/** The caller's `AbortSignal` fired. `cause` is the signal's reason. */
export class AbortError extends SwitchTransformersError<'ABORTED'> {
  constructor(message = 'The operation was aborted.', options?: ErrorOptions) {
    super('ABORTED', message, options)
  }
}

export type DisposedErrorCode = 'DISPOSED' | 'INVALID_HANDLE'

/** Something was used after it had been freed. */
export class DisposedError extends SwitchTransformersError<DisposedErrorCode> {
  constructor(message: string, options?: ErrorOptions, code: DisposedErrorCode = 'DISPOSED') {
    super(code, message, options)
  }
}

export type BackendErrorCode = 'BACKEND_UNAVAILABLE' | 'OUT_OF_MEMORY'

/** No backend fits, or the backend ran out of memory. */
export class BackendError extends SwitchTransformersError<BackendErrorCode> {}

export type HubErrorCode = Extract<ErrorCode, `HUB_${string}`>

/** The hub could not give a file. */
export class HubError extends SwitchTransformersError<HubErrorCode> {}

/** A tokenizer file that is malformed. The message names the file. */
export class TokenizerError extends SwitchTransformersError<'TOKENIZER_INVALID'> {
  constructor(message: string, options?: ErrorOptions) {
    super('TOKENIZER_INVALID', message, options)
  }
}

/** Training came upon a loss or a gradient that is not finite. `details` says at which step and where. */
export class TrainingError extends SwitchTransformersError<'TRAINING_DIVERGED'> {
  constructor(message: string, options?: ErrorOptions) {
    super('TRAINING_DIVERGED', message, options)
  }
}

/** A bug in the library. Please report it with its message. */
export class InternalError extends SwitchTransformersError<'INTERNAL'> {
  constructor(message: string, options?: ErrorOptions) {
    super('INTERNAL', message, options)
  }
}

export function is_error_code(code: unknown): code is ErrorCode {
  return ERROR_CODES.includes(code as ErrorCode)
}

/** The error of the class that `code` belongs to. */
export function error_for_code(code: ErrorCode, message: string, options?: ErrorOptions): SwitchTransformersError {
  switch (CLASS_NAMES[code]) {
    case 'ConfigError':
      return new ConfigError(message, options)
    case 'InputError':
      return new InputError(message, options)
    case 'OptionError':
      return new OptionError(code as OptionErrorCode, message, options)
    case 'CheckpointError':
      return new CheckpointError(code as CheckpointErrorCode, message, options)
    case 'FileError':
      return new FileError(code as FileErrorCode, message, options)
    case 'AbortError':
      return new AbortError(message, options)
    case 'DisposedError':
      return new DisposedError(message, options, code as DisposedErrorCode)
    case 'BackendError':
      return new BackendError(code as BackendErrorCode, message, options)
    case 'HubError':
      return new HubError(code as HubErrorCode, message, options)
    case 'TokenizerError':
      return new TokenizerError(message, options)
    // Made here, never in the backend: pages that do not train need not carry its class.
    case 'TrainingError':
      return new SwitchTransformersError(code, message, options)
    case 'InternalError':
      return new InternalError(message, options)
  }
}

/**
 * The error behind a message that crossed the boundary: the JSON of `WireError`. Anything else, a code that this
 * version does not know included, becomes an {@link InternalError} that keeps the whole text.
 */
export function from_wire(message: string): SwitchTransformersError {
  let parsed: unknown
  try {
    parsed = JSON.parse(message)
  } catch {
    return new InternalError(`The backend failed: ${message}`)
  }
  const { code, message: text, details } = (parsed ?? {}) as Partial<WireError>
  if (!is_error_code(code) || typeof text !== 'string') return new InternalError(`The backend failed: ${message}`)
  return error_for_code(code, text, { details })
}

/** Throws an {@link AbortError} when `signal` has fired, an {@link OptionError} when it is none and never could. */
export function throw_if_aborted(signal: AbortSignal | null | undefined): void {
  const aborted: unknown = (signal ?? { aborted: false }).aborted
  if (typeof aborted !== 'boolean') {
    throw new OptionError('INVALID_OPTION', 'signal must be an AbortSignal.', { details: { option: 'signal' } })
  }
  if (aborted) throw new AbortError(undefined, { cause: signal?.reason })
}

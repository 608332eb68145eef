/**
 * Every error that the library throws on purpose: a stable `code` for programs, a message for people that says what was
 * found, what was expected and what to do, and `details` with the figures behind it.
 *
 * The same codes are used in Rust; they cross the boundary as the JSON of `WireError` and become classes again here.
 */

import type { WireError } from './backend/contract.js'

/** Stable codes. They are part of the public API: a code is never renamed, and its meaning never changes. */
export const ERROR_CODES = [
  /** A model config with a missing, mistyped or impossible value. */
  'INVALID_CONFIG',
  /** Ids, masks, tensors or text that a call cannot take. */
  'INVALID_INPUT',
  /** An option with a wrong value, or options that contradict each other. */
  'INVALID_OPTION',
  /** An option that is known but not implemented. */
  'UNSUPPORTED_OPTION',
  /** A checkpoint file that is truncated, or whose header contradicts its contents. */
  'CHECKPOINT_CORRUPT',
  /** A pickle file that asks for more than tensors. Nothing in it was executed. */
  'CHECKPOINT_UNSAFE',
  /** Tensors that are missing, unexpected or of another shape than the config implies. */
  'CHECKPOINT_MISMATCH',
  /** A checkpoint in a format or dtype that cannot be read. */
  'CHECKPOINT_UNSUPPORTED',
  /** A file that is not there. */
  'FILE_NOT_FOUND',
  /** A file that is there but cannot be read or written. */
  'FILE_READ',
  /** Not enough memory, or more than the backend can address. */
  'OUT_OF_MEMORY',
  /** The caller's `AbortSignal` fired. */
  'ABORTED',
  /** Something was used after `dispose()`. */
  'DISPOSED',
  /** No backend fits this machine or this engine, or the one asked for does not. */
  'BACKEND_UNAVAILABLE',
  /** The hub could not be reached or answered with an error. */
  'HUB_NETWORK',
  /** No such repository, revision or file on the hub. */
  'HUB_NOT_FOUND',
  /** The hub wants another token. */
  'HUB_UNAUTHORIZED',
  /** A download would be needed, but only local files are allowed. */
  'HUB_OFFLINE',
  /** A downloaded file has the wrong size or hash. */
  'HUB_INTEGRITY',
  /** A tokenizer file that is malformed. */
  'TOKENIZER_INVALID',
  /** A loss or a gradient that is not a number any more, or infinite. */
  'TRAINING_DIVERGED',
  /** A handle that the backend does not know. */
  'INVALID_HANDLE',
  /** A bug in the library. */
  'INTERNAL',
] as const

export type ErrorCode = (typeof ERROR_CODES)[number]

export interface ErrorOptions {
  /** Figures for programs: what was found, limits, lists of names. Plain JSON values. */
  details?: unknown
  /** The error that led to this one. */
  cause?: unknown
}

/** The class that each code belongs to. Written out because minifiers rename classes. */
const CLASS_NAMES: Record<ErrorCode, string> = {
  INVALID_CONFIG: 'ConfigError',
  INVALID_INPUT: 'InputError',
  INVALID_OPTION: 'OptionError',
  UNSUPPORTED_OPTION: 'OptionError',
  CHECKPOINT_CORRUPT: 'CheckpointError',
  CHECKPOINT_UNSAFE: 'CheckpointError',
  CHECKPOINT_MISMATCH: 'CheckpointError',
  CHECKPOINT_UNSUPPORTED: 'CheckpointError',
  FILE_NOT_FOUND: 'FileError',
  FILE_READ: 'FileError',
  OUT_OF_MEMORY: 'BackendError',
  ABORTED: 'AbortError',
  DISPOSED: 'DisposedError',
  BACKEND_UNAVAILABLE: 'BackendError',
  HUB_NETWORK: 'HubError',
  HUB_NOT_FOUND: 'HubError',
  HUB_UNAUTHORIZED: 'HubError',
  HUB_OFFLINE: 'HubError',
  HUB_INTEGRITY: 'HubError',
  TOKENIZER_INVALID: 'TokenizerError',
  TRAINING_DIVERGED: 'TrainingError',
  INVALID_HANDLE: 'DisposedError',
  INTERNAL: 'InternalError',
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
  return typeof code === 'string' && (ERROR_CODES as readonly string[]).includes(code)
}

/** The error of the class that `code` belongs to. */
export function error_for_code(code: ErrorCode, message: string, options?: ErrorOptions): SwitchTransformersError {
  switch (code) {
    case 'INVALID_CONFIG':
      return new ConfigError(message, options)
    case 'INVALID_INPUT':
      return new InputError(message, options)
    case 'INVALID_OPTION':
    case 'UNSUPPORTED_OPTION':
      return new OptionError(code, message, options)
    case 'CHECKPOINT_CORRUPT':
    case 'CHECKPOINT_UNSAFE':
    case 'CHECKPOINT_MISMATCH':
    case 'CHECKPOINT_UNSUPPORTED':
      return new CheckpointError(code, message, options)
    case 'FILE_NOT_FOUND':
    case 'FILE_READ':
      return new FileError(code, message, options)
    case 'ABORTED':
      return new AbortError(message, options)
    case 'DISPOSED':
    case 'INVALID_HANDLE':
      return new DisposedError(message, options, code)
    case 'BACKEND_UNAVAILABLE':
    case 'OUT_OF_MEMORY':
      return new BackendError(code, message, options)
    case 'HUB_NETWORK':
    case 'HUB_NOT_FOUND':
    case 'HUB_UNAUTHORIZED':
    case 'HUB_OFFLINE':
    case 'HUB_INTEGRITY':
      return new HubError(code, message, options)
    case 'TOKENIZER_INVALID':
      return new TokenizerError(message, options)
    // Made here, never in the backend: pages that do not train need not carry its class.
    case 'TRAINING_DIVERGED':
      return new SwitchTransformersError(code, message, options)
    case 'INTERNAL':
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

/** The form in which an error crosses to another thread; {@link from_wire} is its inverse. */
export function to_wire(error: unknown): string {
  const wire: WireError =
    error instanceof SwitchTransformersError
      ? { code: error.code, message: error.message, details: error.details }
      : { code: 'INTERNAL', message: error instanceof Error ? `${error.name}: ${error.message}` : String(error) }
  return JSON.stringify(wire)
}

/** Throws an {@link AbortError} when `signal` has fired. */
export function throw_if_aborted(signal: AbortSignal | null | undefined): void {
  if (signal?.aborted) throw new AbortError(undefined, { cause: signal.reason })
}

/** How a command ends: exit codes, and errors as one line. */

import { CommanderError } from 'commander'
import { SwitchTransformersError } from '../errors.js'

export const EXIT = {
  ok: 0,
  /** `verify` found a difference, or something that it could not run. */
  verification_failed: 1,
  /** The command line, an input file, or the machine does not allow what was asked for. */
  failed: 2,
  /** SIGINT, by the shells' convention: 128 + 2. */
  interrupted: 130,
} as const

/** The command line asks for something that is not there or makes no sense. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

export interface Failure {
  exit_code: number
  /** What goes to stderr; empty when nothing is to be said. */
  text: string
}

/** One line for people; with `debug`, the stack too. */
export function failure_of(error: unknown, debug = false): Failure {
  if (error instanceof CommanderError) {
    // Help and version were asked for and have been printed.
    if (error.exitCode === 0) return { exit_code: EXIT.ok, text: '' }
    return { exit_code: EXIT.failed, text: line('USAGE', usage_text(error)) }
  }
  if (error instanceof UsageError) return { exit_code: EXIT.failed, text: line('USAGE', error.message) }
  const trace = debug && error instanceof Error ? `${error.stack}\n` : ''
  if (error instanceof SwitchTransformersError) {
    if (error.code === 'ABORTED') return { exit_code: EXIT.interrupted, text: trace }
    return { exit_code: EXIT.failed, text: line(error.code, error.message) + trace }
  }
  return {
    exit_code: EXIT.failed,
    text: line('INTERNAL', error instanceof Error ? error.message : String(error)) + trace,
  }
}

function line(code: string, message: string): string {
  return `error [${code}]: ${message.replace(/\s*[\r\n]+\s*/g, ' ').trim()}\n`
}

function usage_text(error: CommanderError): string {
  if (error.code === 'commander.help') return 'name a command. See switch-transformers --help.'
  return error.message.replace(/^error: /, '').replace(/\.?$/, '. See --help.')
}

import { OptionError } from '../errors.js'

/** An `INVALID_OPTION` error about the option that it names. `details` may say more. */
export function invalid_option(option: string, message: string, details?: object): OptionError {
  return new OptionError('INVALID_OPTION', message, { details: { option, ...details } })
}

/** What callers give to `forward` and `generate`, checked and made into tensors that cross. */

import type { WireTensor } from '../backend/contract.js'
import { wire } from '../backend/wire.js'
import { InputError, OptionError } from '../errors.js'
import { type FloatsInput, type IdsInput, type MaskInput, to_floats, to_ids, to_mask } from '../tensor.js'
import { invalid_option } from '../utils/invalid_option.js'
import { show } from '../utils/json.js'

export type { FloatsInput, IdsInput, MaskInput } from '../tensor.js'

/** The encoder's output, as `encoder_outputs` takes it: an earlier output, its first element, or just the states. */
export type EncoderOutputs = { last_hidden_state: FloatsInput } | readonly [FloatsInput] | FloatsInput

/** The sizes that inputs are checked against. */
export interface InputLimits {
  vocab_size: number
  d_model: number
}

interface Shaped {
  dims: readonly number[]
}

/** Gathers the tensors of one call; each is checked against those before it. */
export class InputTensors {
  readonly tensors: WireTensor[] = []
  readonly #limits: InputLimits

  constructor(limits: InputLimits) {
    this.#limits = limits
  }

  ids(name: string, input: IdsInput, allow: readonly number[] = []): Shaped {
    const { data, dims } = to_ids(input, name, { vocab_size: this.#limits.vocab_size, allow })
    this.tensors.push(wire(name, data, dims))
    return { dims }
  }

  mask(name: string, input: MaskInput, dims: readonly number[] | undefined): void {
    const mask = to_mask(input, name, dims === undefined ? {} : { dims: [dims[0] as number, dims[1] as number] })
    this.tensors.push(wire(name, mask.data, mask.dims))
  }

  /** Hidden states or embeddings: float32 [rows, tokens, d_model]. */
  states(name: string, input: FloatsInput, as = name): Shaped {
    const { data, dims } = to_floats(input, name, 3, { allow_nan: true })
    if (dims[2] !== this.#limits.d_model) {
      throw new InputError(
        `${name} has shape [${dims.join(', ')}]; its last dimension must be d_model, ${this.#limits.d_model}.`,
        {
          details: { argument: name, found: dims },
        },
      )
    }
    this.tensors.push(wire(as, data, dims))
    return { dims }
  }
}

/** Throws unless both have the same rows. */
export function same_rows(a: string, found: Shaped, b: string, expected: Shaped): void {
  if (found.dims[0] === expected.dims[0]) return
  throw new InputError(`${a} has ${found.dims[0]} rows, and ${b} has ${expected.dims[0]}; they must have as many.`, {
    details: { argument: a, found: found.dims[0], expected: expected.dims[0] },
  })
}

/** Throws unless exactly one of the two is there, as the reference does. */
export function exactly_one(a: string, first: unknown, b: string, second: unknown): void {
  const given = [first, second].filter((value) => value !== undefined && value !== null).length
  if (given !== 1)
    throw new InputError(`Give exactly one of ${a} and ${b}; ${given === 0 ? 'neither is' : 'both are'} there.`)
}

/** The states in `encoder_outputs`. */
export function encoder_states(outputs: EncoderOutputs): FloatsInput {
  if (outputs === null || typeof outputs !== 'object') {
    throw new InputError(`encoder_outputs must be an encoder's output, not ${show(outputs)}.`)
  }
  if ('last_hidden_state' in outputs) return outputs.last_hidden_state
  // A list of one tensor, as the reference's tuples; anything else is the states themselves.
  if (Array.isArray(outputs) && outputs.length > 0 && has_dims(outputs[0])) return outputs[0]
  return outputs as FloatsInput
}

function has_dims(value: unknown): value is FloatsInput {
  return value !== null && typeof value === 'object' && 'dims' in value && 'data' in value
}

/** Throws for arguments that a call does not know, so that none is ignored. */
export function refuse_unknown(
  call: string,
  inputs: Readonly<Record<string, unknown>>,
  known: ReadonlySet<string>,
): void {
  if (inputs === null || typeof inputs !== 'object' || Array.isArray(inputs)) {
    throw new InputError(`${call} takes an object of named inputs, such as { input_ids }, not ${show(inputs)}.`)
  }
  const unknown = Object.keys(inputs).filter(
    (name) => !known.has(name) && inputs[name] !== undefined && inputs[name] !== null,
  )
  if (unknown.length === 0) return
  throw new OptionError(
    'UNSUPPORTED_OPTION',
    `${call} has no argument ${unknown.join(', ')}. It takes ${[...known].join(', ')}.`,
    {
      details: { options: unknown },
    },
  )
}

/** A flag's value; the default where it is left out or null. */
export function flag(name: string, value: unknown, fallback: boolean): boolean {
  if (value === undefined || value === null) return fallback
  if (typeof value === 'boolean') return value
  throw invalid_option(name, `${name} must be true or false, not ${show(value)}.`)
}

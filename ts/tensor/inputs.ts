/**
 * The forms in which callers may give ids, masks and floats, brought to one: a flat typed array and its shape.
 *
 * Accepted everywhere: nested arrays, typed arrays (one row), arrays of typed arrays, and anything with `data` and
 * `dims`, such as a `Tensor` of this library or of another. Refused with an InputError that names the argument, the
 * position and the value: ragged or empty arrays, and values of the wrong kind.
 */

import { InputError } from '../errors.js'
import { element_count } from './shape.js'

type Scalar = number | bigint | boolean
type NumberArray = ArrayLike<number> | ArrayLike<bigint>
/** A flat array with its shape, row-major; `Tensor` is one. */
export interface ArrayWithDims {
  readonly data: NumberArray
  readonly dims: readonly number[]
}

export type IdsInput = readonly Scalar[] | readonly NumberArray[] | NumberArray | ArrayWithDims
export type MaskInput =
  | readonly Scalar[]
  | readonly (readonly Scalar[])[]
  | readonly NumberArray[]
  | NumberArray
  | ArrayWithDims
export type FloatsInput = readonly unknown[] | NumberArray | ArrayWithDims

export interface IdsOptions {
  /** Negative values that have a meaning, such as -100 in labels. None by default. */
  allow?: readonly number[]
  /** Ids must be below this, when given. */
  vocab_size?: number
}

export interface MaskOptions {
  /** The shape that the mask must have, when it is known. */
  dims?: readonly [rows: number, cols: number]
}

export interface FloatsOptions {
  /** Whether NaN may pass. `false` by default; infinities always may. */
  allow_nan?: boolean
}

const MAX_ID = 2 ** 31 - 1

/** Token ids as `[rows, cols]`. One row when the input has one dimension. */
export function to_ids(
  input: IdsInput,
  name: string,
  options: IdsOptions = {},
): { data: Int32Array; dims: [number, number] } {
  const { values, dims } = flatten(input, name, 2)
  const limit = Math.min(options.vocab_size ?? MAX_ID + 1, MAX_ID + 1)
  const data = new Int32Array(values.length)
  for (let index = 0; index < values.length; ++index) {
    const value = values[index]
    // A bigint beyond 2^53 becomes a number beyond the limit too, so that the comparison below still refuses it.
    const id = typeof value === 'bigint' ? Number(value) : value
    if (typeof id === 'number' && Number.isInteger(id) && ((id >= 0 && id < limit) || options.allow?.includes(id))) {
      data[index] = id
      continue
    }
    const expected = `an integer from 0 to ${limit - 1}${options.allow?.length ? ` or ${options.allow.join(', ')}` : ''}`
    throw element_error(name, index, dims, value, `expected a token id, ${expected}`)
  }
  return { data, dims: dims as [number, number] }
}

/** A mask of zeros and ones (or booleans) as `[rows, cols]`. A row without a single one is refused: nothing could be attended to. */
export function to_mask(
  input: MaskInput,
  name: string,
  options: MaskOptions = {},
): { data: Int32Array; dims: [number, number] } {
  const { values, dims } = flatten(input, name, 2)
  if (options.dims && (dims[0] !== options.dims[0] || dims[1] !== options.dims[1])) {
    throw new InputError(
      `${name} has shape [${dims.join(', ')}]; expected [${options.dims.join(', ')}], one value per token.`,
      {
        details: { argument: name, found: dims, expected: options.dims },
      },
    )
  }
  const data = new Int32Array(values.length)
  const [rows, cols] = dims as [number, number]
  for (let row = 0; row < rows; ++row) {
    let ones = 0
    for (let index = row * cols; index < (row + 1) * cols; ++index) {
      const value = Number(values[index])
      if (value !== 0 && value !== 1) throw element_error(name, index, dims, values[index], 'expected 0 or 1')
      data[index] = value
      ones += value
    }
    if (ones === 0) {
      throw new InputError(`${name} row ${row} is all zero; at least one token of each row must be attended to.`, {
        details: { argument: name, row },
      })
    }
  }
  return { data, dims: [rows, cols] }
}

/** Floats with exactly `ndims` dimensions. Nothing is broadcast or added. */
export function to_floats(
  input: FloatsInput,
  name: string,
  ndims: number,
  options: FloatsOptions = {},
): { data: Float32Array; dims: number[] } {
  const { values, dims } = flatten(input, name, ndims, false)
  const data = new Float32Array(values.length)
  for (let index = 0; index < values.length; ++index) {
    const value = values[index]
    const number = Number(value)
    if (typeof value === 'boolean' || (Number.isNaN(number) && !(options.allow_nan && typeof value === 'number'))) {
      throw element_error(name, index, dims, value, 'expected a number')
    }
    data[index] = number
  }
  return { data, dims }
}

function element_error(
  name: string,
  index: number,
  dims: readonly number[],
  value: unknown,
  expected: string,
): InputError {
  const position: number[] = []
  for (let axis = dims.length - 1, rest = index; axis >= 0; --axis) {
    position.unshift(rest % dims[axis]!)
    rest = Math.floor(rest / dims[axis]!)
  }
  return new InputError(`${name}[${position.join('][')}] is ${describe(value)}; ${expected}.`, {
    details: { argument: name, position, value: typeof value === 'number' ? value : String(value) },
  })
}

function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value)
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object'
  return typeof value === 'bigint' ? `${value}n` : String(value)
}

/**
 * The elements of `input` and its shape, which has `ndims` dimensions. With `promote`, an input with one dimension
 * less becomes one row.
 */
function flatten(
  input: unknown,
  name: string,
  ndims: number,
  promote = true,
): { values: ArrayLike<unknown>; dims: number[] } {
  if (input === null || typeof input !== 'object') {
    throw new InputError(`${name} is ${describe(input)}; expected nested arrays, a typed array or a tensor.`, {
      details: { argument: name },
    })
  }
  const { values, dims } = has_dims(input) ? from_dims(input, name) : from_nested(input, name)
  if (promote && dims.length === ndims - 1) dims.unshift(1)
  if (dims.length !== ndims) {
    throw new InputError(`${name} has ${dims.length} dimensions, [${dims.join(', ')}]; expected ${ndims}.`, {
      details: { argument: name, found: dims },
    })
  }
  if (dims.includes(0)) {
    throw new InputError(`${name} is empty: its shape is [${dims.join(', ')}]. Every dimension must be at least 1.`, {
      details: { argument: name, found: dims },
    })
  }
  return { values, dims }
}

function has_dims(input: object): input is ArrayWithDims {
  return 'dims' in input && 'data' in input
}

function from_dims(input: ArrayWithDims, name: string): { values: ArrayLike<unknown>; dims: number[] } {
  const { data, dims } = input
  const valid = Array.isArray(dims) && dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0)
  if (!valid || !is_flat(data) || data.length !== element_count(dims)) {
    throw new InputError(
      `${name} has ${data?.length ?? 'no'} elements for shape ${JSON.stringify(dims)}; expected as many as the shape's product.`,
      { details: { argument: name } },
    )
  }
  return { values: data, dims: [...dims] }
}

/** Whether `value` is a typed array or an array of anything but arrays. */
function is_flat(value: unknown): value is ArrayLike<unknown> {
  if (ArrayBuffer.isView(value)) return !(value instanceof DataView)
  return Array.isArray(value) && !value.some(is_list)
}

function is_list(value: unknown): value is ArrayLike<unknown> {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))
}

function from_nested(input: object, name: string): { values: ArrayLike<unknown>; dims: number[] } {
  if (!is_list(input)) {
    throw new InputError(`${name} is ${describe(input)}; expected nested arrays, a typed array or a tensor.`, {
      details: { argument: name },
    })
  }
  if (is_flat(input)) return { values: input, dims: [input.length] }
  const dims: number[] = []
  for (let level: unknown = input; is_list(level); level = level[0]) {
    dims.push(level.length)
    if (dims.length > MAX_NESTING) throw new InputError(`${name} is nested more than ${MAX_NESTING} deep.`)
  }
  const values: unknown[] = []
  const collect = (level: unknown, axis: number, path: number[]): void => {
    const where = () => `${name}${path.map((index) => `[${index}]`).join('')}`
    if (!is_list(level) || level.length !== dims[axis]) {
      const found = is_list(level) ? `has ${level.length} elements` : `is ${describe(level)}`
      throw new InputError(
        `${where()} ${found}; expected ${dims[axis]}, as in the first. Pad the rows to one length (padding: true).`,
        { details: { argument: name, position: path, expected: dims[axis] } },
      )
    }
    for (let index = 0; index < level.length; ++index) {
      if (axis + 1 < dims.length) collect(level[index], axis + 1, [...path, index])
      else if (!is_list(level[index])) values.push(level[index])
      else throw new InputError(`${where()}[${index}] is an array; expected a number, as in the other rows.`)
    }
  }
  collect(input, 0, [])
  return { values, dims }
}

/** No input of the library has more dimensions than four; nesting beyond this is a mistake or an attack. */
const MAX_NESTING = 8

/** Arithmetic on shapes, with the errors that callers of `Tensor` see. */

import { InputError } from '../errors.js'

/** Elements in an array of shape `dims`: the product, 1 for a scalar. */
export function element_count(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1)
}

/** Row-major strides of an array of shape `dims`. */
export function strides_of(dims: readonly number[]): number[] {
  const strides = new Array<number>(dims.length)
  for (let axis = dims.length - 1, stride = 1; axis >= 0; --axis) {
    strides[axis] = stride
    stride *= dims[axis]!
  }
  return strides
}

/** Throws unless `dims` is a list of non-negative safe integers whose product is one too. */
export function check_dims(dims: unknown, name: string): asserts dims is readonly number[] {
  if (!Array.isArray(dims)) throw new InputError(`${name} must be an array of integers; found ${typeof dims}.`)
  for (const [axis, dim] of dims.entries()) {
    if (!Number.isSafeInteger(dim) || dim < 0) {
      throw new InputError(`${name}[${axis}] is ${String(dim)}; a dimension must be a non-negative integer.`)
    }
  }
  if (!Number.isSafeInteger(element_count(dims))) {
    throw new InputError(`${name} [${dims.join(', ')}] has more elements than can be counted.`)
  }
}

/** The axis that `dim` names, counting from the end when negative. */
export function resolve_axis(dim: number, rank: number): number {
  if (!Number.isInteger(dim) || dim < -rank || dim >= rank) {
    throw new InputError(`Dimension ${String(dim)} is out of range: the tensor has ${rank} dimensions.`)
  }
  return dim < 0 ? dim + rank : dim
}

/** The shape that `dims` asks of `size` elements; one of them may be -1, which is then inferred. */
export function infer_dims(dims: readonly number[], size: number): number[] {
  const unknown = dims.indexOf(-1)
  if (unknown < 0) {
    check_dims(dims, 'dims')
    if (element_count(dims) !== size) {
      throw new InputError(`Cannot view ${size} elements as [${dims.join(', ')}], which has ${element_count(dims)}.`)
    }
    return [...dims]
  }
  const rest = dims.filter((_, axis) => axis !== unknown)
  check_dims(rest, 'dims')
  const known = element_count(rest)
  if (known === 0 || size % known !== 0) {
    throw new InputError(`Cannot view ${size} elements as [${dims.join(', ')}]: ${size} is not a multiple of ${known}.`)
  }
  return dims.map((dim, axis) => (axis === unknown ? size / known : dim))
}

/** The array type that crosses the public API. Its surface is the part of transformers.js's `Tensor` that applies here. */

import { DisposedError, InputError } from '../errors.js'
import { reduce_extreme, reduce_sum } from './reduce.js'
import { check_dims, element_count, infer_dims, resolve_axis, strides_of } from './shape.js'
import {
  DATA_ARRAYS,
  DATA_TYPES,
  type DataArrays,
  type DataType,
  type Element,
  is_data_type,
  type NestedArray,
} from './types.js'

/** One axis of {@link Tensor.slice}: an index (the axis goes), `[start, end)`, or `null` for all of it. */
export type SliceRange = number | [number, number] | null

export interface Tensor<T extends DataType = DataType> {
  /** The sub-tensor at an index of the first dimension; the element itself when there is only one dimension. */
  readonly [index: number]: Tensor<T> | Element<T>
}

/**
 * A row-major array on the CPU.
 *
 * `data` is not copied: the tensor and the caller share it, as do the tensors that `view`, `reshape`, `squeeze`,
 * `unsqueeze`, `flatten` and indexing return.
 */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the interface only types what the proxy's index trap does.
export class Tensor<T extends DataType = DataType> implements Iterable<Tensor<T> | Element<T>> {
  readonly type: T
  readonly dims: number[]
  /** Number of elements. */
  readonly size: number
  /** @internal `null` once disposed. */
  _data: DataArrays[T] | null

  /**
   * @param type `float32`, `int64`, … (see {@link DATA_TYPES}).
   * @param data A typed array of that type, or an array of numbers, bigints or booleans, which is copied.
   * @param dims The shape. One dimension when left out.
   * @throws InputError when the type is unknown, an element does not fit it, or the shape has another element count.
   */
  constructor(type: T, data: DataArrays[T] | readonly (number | bigint | boolean)[], dims?: readonly number[]) {
    if (!is_data_type(type)) {
      throw new InputError(`Unknown tensor type ${JSON.stringify(type)}; expected one of ${DATA_TYPES.join(', ')}.`)
    }
    const shape: readonly number[] = dims ?? [data?.length ?? 0]
    check_dims(shape, 'dims')
    this.type = type
    this._data = to_data_array(type, data)
    this.dims = [...shape]
    this.size = element_count(shape)
    if (this._data.length !== this.size) {
      throw new InputError(
        `A tensor of shape [${shape.join(', ')}] has ${this.size} elements, but its data has ${this._data.length}.`,
      )
    }
    // biome-ignore lint/correctness/noConstructorReturn: `tensor[0]` works as in transformers.js.
    return new Proxy(this, INDEX_TRAP) as this
  }

  /** The elements, row-major. Throws a DisposedError after {@link dispose}. */
  get data(): DataArrays[T] {
    if (this._data === null) throw new DisposedError('This tensor has been disposed of; its data is gone.')
    return this._data
  }

  /** Always `cpu`: tensors that cross the API live in JavaScript's memory. `none` once disposed. */
  get location(): 'cpu' | 'none' {
    return this._data === null ? 'none' : 'cpu'
  }

  get ndim(): number {
    return this.dims.length
  }

  get byteLength(): number {
    return this.data.byteLength
  }

  /** Lets go of the data. Later reads throw; a second call does nothing. */
  dispose(): void {
    this._data = null
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  *[Symbol.iterator](): IterableIterator<Tensor<T> | Element<T>> {
    if (this.dims.length === 0) throw new InputError('Cannot iterate over a tensor with no dimensions; use item().')
    for (let index = 0; index < this.dims[0]!; ++index) yield this.at(index)
  }

  /** What `tensor[index]` gives; negative indices count from the end. */
  at(index: number): Tensor<T> | Element<T> {
    if (this.dims.length === 0) throw new InputError('Cannot index a tensor with no dimensions; use item().')
    const [length, ...rest] = this.dims as [number, ...number[]]
    if (!Number.isInteger(index) || index < -length || index >= length) {
      throw new InputError(`Index ${String(index)} is out of range for dimension 0 with size ${length}.`)
    }
    const position = index < 0 ? index + length : index
    if (rest.length === 0) return this.data[position] as Element<T>
    const size = element_count(rest)
    return new Tensor(this.type, this.data.subarray(position * size, (position + 1) * size) as DataArrays[T], rest)
  }

  /** The only element. Throws unless there is exactly one. */
  item(): Element<T> {
    if (this.size !== 1) throw new InputError(`item() needs a tensor with one element; this one has ${this.size}.`)
    return this.data[0] as Element<T>
  }

  /** Nested arrays; a scalar tensor gives its element. `int64` elements are bigints, as in transformers.js. */
  // biome-ignore lint/suspicious/noExplicitAny: the nesting depends on dims, which types cannot know.
  tolist(): any {
    const { data, dims } = this
    let offset = 0
    const build = (axis: number): NestedArray<Element<T>> => {
      if (axis === dims.length) return data[offset++] as Element<T>
      return Array.from({ length: dims[axis]! }, () => build(axis + 1))
    }
    return build(0)
  }

  /** A copy. */
  clone(): Tensor<T> {
    return new Tensor(this.type, this.data.slice() as DataArrays[T], this.dims)
  }

  /**
   * The same values as another type: towards zero for integers, `value !== 0` for `bool`.
   * @throws InputError for values that the type cannot hold.
   */
  to<U extends DataType>(type: U): Tensor<U> {
    if (!is_data_type(type)) {
      throw new InputError(`Unknown tensor type ${JSON.stringify(type)}; expected one of ${DATA_TYPES.join(', ')}.`)
    }
    if ((type as DataType) === this.type) return this as unknown as Tensor<U>
    const integral = type !== 'float32' && type !== 'float64' && type !== 'bool'
    const values = Array.from(this.data as ArrayLike<number | bigint>, (value) => {
      if (type === 'bool') return Number(value) !== 0
      return integral && typeof value === 'number' ? Math.trunc(value) : value
    })
    return new Tensor(type, values, this.dims)
  }

  /** Every element replaced by `callback(element, position)`, in the same type. */
  map(callback: (value: Element<T>, index: number) => Element<T>): Tensor<T> {
    const values = Array.from(this.data as unknown as ArrayLike<Element<T>>, callback)
    return new Tensor(this.type, values, this.dims)
  }

  /** The same elements in another shape; one dimension may be -1. Shares the data. */
  view(...dims: number[]): Tensor<T> {
    return new Tensor(this.type, this.data, infer_dims(dims, this.size))
  }

  /** As {@link view}, with the shape as one array. */
  reshape(dims: readonly number[]): Tensor<T> {
    return this.view(...dims)
  }

  /** Dimensions `start_dim` to `end_dim` (both included) joined into one. Shares the data. */
  flatten(start_dim = 0, end_dim = -1): Tensor<T> {
    if (this.dims.length === 0) return this.view(1)
    const start = resolve_axis(start_dim, this.dims.length)
    const end = resolve_axis(end_dim, this.dims.length)
    if (start > end) throw new InputError(`flatten(${start_dim}, ${end_dim}): the first dimension is after the last.`)
    const joined = element_count(this.dims.slice(start, end + 1))
    return this.view(...this.dims.slice(0, start), joined, ...this.dims.slice(end + 1))
  }

  /** Without the dimensions of size 1, or without the named ones, which must have size 1. Shares the data. */
  squeeze(dim?: number | readonly number[] | null): Tensor<T> {
    if (dim === undefined || dim === null) return this.view(...this.dims.filter((size) => size !== 1))
    const axes = (typeof dim === 'number' ? [dim] : dim).map((axis) => resolve_axis(axis, this.dims.length))
    for (const axis of axes) {
      if (this.dims[axis] !== 1) {
        throw new InputError(`Cannot squeeze dimension ${axis}: its size is ${this.dims[axis]}, not 1.`)
      }
    }
    return this.view(...this.dims.filter((_, axis) => !axes.includes(axis)))
  }

  /** With a dimension of size 1 inserted at `dim`. Shares the data. */
  unsqueeze(dim: number): Tensor<T> {
    const axis = resolve_axis(dim, this.dims.length + 1)
    return this.view(...this.dims.slice(0, axis), 1, ...this.dims.slice(axis))
  }

  /** The part that `ranges` select, one per dimension from the first; dimensions left out are kept whole. Copies. */
  slice(...ranges: SliceRange[]): Tensor<T> {
    if (ranges.length > this.dims.length) {
      throw new InputError(`slice() got ${ranges.length} ranges for a tensor with ${this.dims.length} dimensions.`)
    }
    const bounds = this.dims.map((size, axis) => resolve_range(ranges[axis] ?? null, size, axis))
    const counts = bounds.map(([start, end]) => end - start)
    const strides = strides_of(this.dims)
    const offset = bounds.reduce((sum, [start], axis) => sum + start * strides[axis]!, 0)
    const kept = counts.filter((_, axis) => typeof ranges[axis] !== 'number')
    return new Tensor(this.type, gather(this, counts, strides, offset), kept)
  }

  /** Dimensions in another order. Copies. */
  permute(...order: number[]): Tensor<T> {
    const axes = order.map((axis) => resolve_axis(axis, this.dims.length))
    if (axes.length !== this.dims.length || new Set(axes).size !== axes.length) {
      throw new InputError(`permute(${order.join(', ')}) must name each of the ${this.dims.length} dimensions once.`)
    }
    const strides = strides_of(this.dims)
    const dims = axes.map((axis) => this.dims[axis]!)
    return new Tensor(
      this.type,
      gather(
        this,
        dims,
        axes.map((axis) => strides[axis]!),
        0,
      ),
      dims,
    )
  }

  /** Two dimensions swapped when two are named (or the tensor has two), else as {@link permute}. Copies. */
  transpose(...dims: number[]): Tensor<T> {
    if (dims.length === 0 && this.dims.length === 2) return this.permute(1, 0)
    if (dims.length !== 2 || this.dims.length === 2) return this.permute(...dims)
    const [first, second] = dims.map((dim) => resolve_axis(dim, this.dims.length)) as [number, number]
    const order = this.dims.map((_, axis) => (axis === first ? second : axis === second ? first : axis))
    return this.permute(...order)
  }

  /** The sum, of everything or along `dim`. `int64` stays exact. */
  sum(dim: number | null = null, keepdim = false): Tensor<T> {
    return reduce_sum(this, dim, keepdim)
  }

  /** The mean, of everything or along `dim`. Integer tensors must be converted first, as in PyTorch. */
  mean(dim: number | null = null, keepdim = false): Tensor<T> {
    if (this.type !== 'float32' && this.type !== 'float64') {
      throw new InputError(`mean() needs a floating-point tensor; this one is ${this.type}. Use to('float32') first.`)
    }
    const total = reduce_sum(this, dim, keepdim)
    const count = dim === null ? this.size : this.dims[resolve_axis(dim, this.dims.length)]!
    return total.map((value) => (Number(value) / count) as Element<T>)
  }

  /** The largest value, of everything or along `dim`. */
  max(dim: number | null = null, keepdim = false): Tensor<T> {
    return reduce_extreme(this, dim, keepdim, 1).values
  }

  /** The smallest value, of everything or along `dim`. */
  min(dim: number | null = null, keepdim = false): Tensor<T> {
    return reduce_extreme(this, dim, keepdim, -1).values
  }

  /** Where the largest value is, of everything or along `dim`; the first of equals. */
  argmax(dim: number | null = null, keepdim = false): Tensor<'int64'> {
    return reduce_extreme(this, dim, keepdim, 1).indices
  }

  /** Where the smallest value is, of everything or along `dim`; the first of equals. */
  argmin(dim: number | null = null, keepdim = false): Tensor<'int64'> {
    return reduce_extreme(this, dim, keepdim, -1).indices
  }
}

/** `tensor[2]` is `tensor.at(2)`. Everything else is read from the tensor itself. */
const INDEX_TRAP: ProxyHandler<Tensor> = {
  get: (target, key) =>
    typeof key === 'string' && /^-?\d+$/.test(key) ? target.at(Number(key)) : Reflect.get(target, key),
}

/** The elements at `offset + Σ index·stride`, for every index of shape `counts` in row-major order. */
function gather<T extends DataType>(
  tensor: Tensor<T>,
  counts: readonly number[],
  strides: readonly number[],
  offset: number,
): DataArrays[T] {
  const source = tensor.data
  const result = new DATA_ARRAYS[tensor.type](element_count(counts)) as DataArrays[T]
  const index = new Array<number>(counts.length).fill(0)
  for (let written = 0, from = offset; written < result.length; ++written) {
    result[written] = source[from]!
    for (let axis = counts.length - 1; axis >= 0; --axis) {
      from += strides[axis]!
      if (++index[axis]! < counts[axis]!) break
      from -= strides[axis]! * counts[axis]!
      index[axis] = 0
    }
  }
  return result
}

/** The `[start, end)` of one axis; bounds count from the end when negative and are clamped, as in Python. */
function resolve_range(range: SliceRange, size: number, axis: number): [number, number] {
  if (range === null) return [0, size]
  if (typeof range === 'number') {
    if (!Number.isInteger(range) || range < -size || range >= size) {
      throw new InputError(`Index ${String(range)} is out of range for dimension ${axis} with size ${size}.`)
    }
    const start = range < 0 ? range + size : range
    return [start, start + 1]
  }
  if (!Array.isArray(range) || range.length !== 2 || !range.every(Number.isInteger)) {
    throw new InputError(
      `slice() takes an index, [start, end] or null per dimension; dimension ${axis} is something else.`,
    )
  }
  const [start, end] = range.map((bound) => Math.min(Math.max(bound < 0 ? bound + size : bound, 0), size)) as [
    number,
    number,
  ]
  return [start, Math.max(start, end)]
}

/** `data` as the typed array of `type`, as it is when it already is one. */
function to_data_array<T extends DataType>(
  type: T,
  data: DataArrays[T] | readonly (number | bigint | boolean)[],
): DataArrays[T] {
  const array = DATA_ARRAYS[type]
  if (data instanceof (array as unknown as new (length: number) => DataArrays[T])) return data
  if (!Array.isArray(data)) {
    const found = (data as unknown)?.constructor?.name ?? String(data)
    throw new InputError(`The data of a ${type} tensor must be an array or a ${array.name}; found ${found}.`)
  }
  const result = new array(data.length) as DataArrays[T]
  for (let index = 0; index < data.length; ++index) result[index] = to_element(type, data[index], index) as never
  return result
}

/** `value` as an element of `type`; throws rather than wrap around. */
function to_element(type: DataType, value: unknown, index: number): number | bigint {
  if (typeof value === 'boolean' || typeof value === 'number' || typeof value === 'bigint') {
    if (type === 'bool') return Number(value) === 0 ? 0 : 1
    if (type === 'float32' || type === 'float64') return Number(value)
    const whole = typeof value === 'bigint' || Number.isInteger(Number(value))
    if (whole && type === 'int64' && BigInt.asIntN(64, BigInt(value)) === BigInt(value)) return BigInt(value)
    if (whole && type !== 'int64') {
      const number = Number(value)
      const holder = new DATA_ARRAYS[type](1) as Int32Array
      holder[0] = number
      if (holder[0] === number) return number
    }
  }
  throw new InputError(`Element ${index} is ${String(value)} (${typeof value}), which a ${type} tensor cannot hold.`)
}

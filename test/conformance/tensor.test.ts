import { describe, expect, it } from 'vitest'
import { DisposedError, InputError } from '../../ts/errors.js'
import { Tensor, to_floats, to_ids, to_mask } from '../../ts/tensor.js'

const grid = () => new Tensor('float32', Float32Array.of(0, 1, 2, 3, 4, 5), [2, 3])
const values = (tensor: Tensor) => ({ dims: tensor.dims, list: tensor.tolist() })

describe('Tensor', () => {
  it('has type, dims, data, size and nested lists', () => {
    const tensor = new Tensor('int64', [1, 2n, 3, 4], [2, 2])
    expect(tensor).toMatchObject({ type: 'int64', dims: [2, 2], size: 4, ndim: 2, location: 'cpu', byteLength: 32 })
    expect(tensor.data).toEqual(BigInt64Array.of(1n, 2n, 3n, 4n))
    expect(tensor.tolist()).toEqual([
      [1n, 2n],
      [3n, 4n],
    ])
    expect(new Tensor('bool', [true, false, 7]).tolist()).toEqual([1, 0, 1])
    expect(new Tensor('float32', [2.5], []).tolist()).toBe(2.5)
    expect(new Tensor('int32', [], [2, 0]).tolist()).toEqual([[], []])
  })

  it('shares a typed array and copies a plain one', () => {
    const data = Float32Array.of(1, 2)
    const tensor = new Tensor('float32', data)
    data[0] = 9
    expect(tensor.tolist()).toEqual([9, 2])
    expect(tensor.data).toBe(data)
  })

  it('refuses shapes and elements that do not fit', () => {
    expect(() => new Tensor('float32', [1, 2, 3], [2, 2])).toThrow('has 4 elements, but its data has 3')
    expect(() => new Tensor('float32', [1], [-1])).toThrow(InputError)
    expect(() => new Tensor('float32', [], [2 ** 53, 0])).toThrow(InputError)
    expect(() => new Tensor('float32', [1], [0.5, 2])).toThrow('dims[0] is 0.5')
    expect(() => new Tensor('int32', [1, 1.5])).toThrow('Element 1 is 1.5')
    expect(() => new Tensor('int32', [2 ** 31])).toThrow(InputError)
    expect(() => new Tensor('uint8', [-1])).toThrow(InputError)
    expect(() => new Tensor('int64', [2n ** 63n])).toThrow(InputError)
    expect(() => new Tensor('int32', Float32Array.of(1) as never)).toThrow('found Float32Array')
    expect(() => new Tensor('complex' as never, [1])).toThrow('Unknown tensor type "complex"')
    expect(() => new Tensor('toString' as never, [1])).toThrow(InputError)
  })

  it('is indexed and iterated along its first dimension', () => {
    const tensor = grid()
    expect((tensor[1] as Tensor).tolist()).toEqual([3, 4, 5])
    expect((tensor.at(-1) as Tensor).at(0)).toBe(3)
    expect([...tensor].map((row) => (row as Tensor).tolist())).toEqual(tensor.tolist())
    expect(() => tensor[2]).toThrow('out of range')
    expect(() => [...new Tensor('float32', [1], [])]).toThrow(InputError)
    expect(tensor instanceof Tensor).toBe(true)
  })

  it('is viewed in other shapes', () => {
    expect(values(grid().view(3, -1))).toEqual({
      dims: [3, 2],
      list: [
        [0, 1],
        [2, 3],
        [4, 5],
      ],
    })
    expect(grid().reshape([6]).data).toEqual(grid().data)
    expect(() => grid().view(4, -1)).toThrow(InputError)
    expect(() => grid().view(-1, -1)).toThrow(InputError)
    expect(grid().unsqueeze(0).unsqueeze(-1).dims).toEqual([1, 2, 3, 1])
    expect(grid().unsqueeze(0).unsqueeze(-1).squeeze().dims).toEqual([2, 3])
    expect(grid().unsqueeze(1).squeeze(-2).dims).toEqual([2, 3])
    expect(() => grid().squeeze(0)).toThrow('its size is 2')
    expect(grid().flatten().dims).toEqual([6])
    expect(grid().unsqueeze(0).flatten(1).dims).toEqual([1, 6])
  })

  it('is sliced as in Python', () => {
    expect(values(grid().slice(null, [1, 3]))).toEqual({
      dims: [2, 2],
      list: [
        [1, 2],
        [4, 5],
      ],
    })
    expect(values(grid().slice(-1))).toEqual({ dims: [3], list: [3, 4, 5] })
    expect(values(grid().slice([0, 99], -1))).toEqual({ dims: [2], list: [2, 5] })
    expect(grid().slice([2, 1]).dims).toEqual([0, 3])
    expect(grid().slice(1, 2).item()).toBe(5)
    expect(() => grid().slice(2)).toThrow(InputError)
    expect(() => grid().slice(0, 0, 0)).toThrow(InputError)
  })

  it('is transposed', () => {
    expect(grid().transpose().tolist()).toEqual([
      [0, 3],
      [1, 4],
      [2, 5],
    ])
    const cube = new Tensor(
      'int32',
      Int32Array.from({ length: 24 }, (_, i) => i),
      [2, 3, 4],
    )
    expect(cube.permute(2, 0, 1).slice(3, 1, 2).item()).toBe(23)
    expect(cube.transpose(0, -1).dims).toEqual([4, 3, 2])
    expect(() => cube.permute(0, 1)).toThrow(InputError)
    expect(() => cube.permute(0, 1, 1)).toThrow(InputError)
  })

  it('is reduced', () => {
    expect(grid().mean().item()).toBe(2.5)
    expect(values(grid().mean(0))).toEqual({ dims: [3], list: [1.5, 2.5, 3.5] })
    expect(values(grid().sum(1, true))).toEqual({ dims: [2, 1], list: [[3], [12]] })
    expect(new Tensor('int64', [2n ** 60n, 1n]).sum().item()).toBe(2n ** 60n + 1n)
    expect(() => new Tensor('int32', [1]).mean()).toThrow("to('float32')")
    const scores = new Tensor('float32', [1, 5, 5, 2, -1, 0], [2, 3])
    expect(scores.argmax(-1).tolist()).toEqual([1n, 0n])
    expect(scores.argmin().item()).toBe(4n)
    expect(scores.max(0).tolist()).toEqual([2, 5, 5])
    expect(scores.min(1).tolist()).toEqual([1, -1])
    expect(new Tensor('float32', [1, Number.NaN, 3]).argmax().item()).toBe(1n)
    expect(() => new Tensor('float32', [], [0]).max()).toThrow(InputError)
  })

  it('is converted', () => {
    expect(new Tensor('float32', [1.7, -1.7]).to('int64').data).toEqual(BigInt64Array.of(1n, -1n))
    expect(new Tensor('int64', [3n]).to('float32').data).toEqual(Float32Array.of(3))
    expect(new Tensor('float32', [0, 0.5]).to('bool').tolist()).toEqual([0, 1])
    expect(() => new Tensor('float32', [Number.NaN]).to('int32')).toThrow(InputError)
    expect(() => new Tensor('int32', [300]).to('uint8')).toThrow(InputError)
    expect(
      grid()
        .map((value) => value * 2)
        .tolist()[1],
    ).toEqual([6, 8, 10])
    const copy = grid().clone()
    copy.data[0] = 7
    expect(grid().data[0]).toBe(0)
  })

  it('is gone after dispose', () => {
    const tensor = grid()
    tensor.dispose()
    tensor.dispose()
    expect(tensor.location).toBe('none')
    expect(() => tensor.data).toThrow(DisposedError)
    expect(() => tensor.tolist()).toThrow(DisposedError)
  })
})

describe('to_ids', () => {
  const expected = { data: Int32Array.of(1, 2, 3, 4), dims: [2, 2] }
  it.each([
    [
      'nested numbers',
      [
        [1, 2],
        [3, 4],
      ],
    ],
    [
      'nested bigints',
      [
        [1n, 2n],
        [3n, 4n],
      ],
    ],
    ['rows that are typed arrays', [Int32Array.of(1, 2), Uint8Array.of(3, 4)]],
    ['an int64 tensor', new Tensor('int64', [1, 2, 3, 4], [2, 2])],
    ['a float tensor with whole values', new Tensor('float32', [1, 2, 3, 4], [2, 2])],
    ['anything with data and dims', { data: [1, 2, 3, 4], dims: [2, 2] }],
  ])('takes %s', (_, input) => {
    expect(to_ids(input as never, 'input_ids')).toEqual(expected)
  })

  it('takes one row as a flat array', () => {
    for (const input of [
      [5, 6],
      [5n, 6n],
      Int32Array.of(5, 6),
      BigInt64Array.of(5n, 6n),
      new Tensor('int64', [5, 6]),
    ]) {
      expect(to_ids(input as never, 'input_ids')).toEqual({ data: Int32Array.of(5, 6), dims: [1, 2] })
    }
  })

  it.each<[string, unknown, RegExp]>([
    ['negative', [[1, -2]], /input_ids\[0\]\[1\] is -2; expected a token id/],
    ['fractional', [[1], [0.5]], /input_ids\[1\]\[0\] is 0\.5/],
    ['NaN', Float32Array.of(Number.NaN), /input_ids\[0\]\[0\] is NaN/],
    ['infinite', [Number.POSITIVE_INFINITY], /is Infinity/],
    ['too large', [[2 ** 31]], /is 2147483648/],
    ['a bigint too large', [[2n ** 70n]], /is 1180591620717411303424n/],
    ['strings', [['1']], /is "1"/],
    ['null', [[null]], /is null/],
    ['ragged', [[1, 2], [3]], /input_ids\[1\] has 1 elements; expected 2/],
    ['a number among rows', [[1, 2], 3], /input_ids\[1\] is 3/],
    ['a row among numbers', [1, [2]], /input_ids\[1\] is an array|input_ids\[0\]/],
    ['empty', [], /input_ids is empty/],
    ['rows of length zero', [[], []], /input_ids is empty/],
    ['three dimensions', [[[1]]], /has 3 dimensions/],
    ['data without enough elements', { data: [1, 2, 3], dims: [2, 2] }, /has 3 elements for shape \[2,2\]/],
    ['a lying shape', { data: [1], dims: [2 ** 40, 2 ** 40] }, /has 1 elements/],
    ['undefined', undefined, /is undefined/],
    ['a string', 'abc', /is "abc"/],
    ['an object', {}, /is an object/],
  ])('refuses %s', (_, input, message) => {
    const failure = (() => {
      try {
        to_ids(input as never, 'input_ids')
      } catch (error) {
        return error
      }
    })()
    expect(failure).toBeInstanceOf(InputError)
    expect((failure as InputError).code).toBe('INVALID_INPUT')
    expect((failure as InputError).message).toMatch(message)
  })

  it('allows what the caller says has a meaning, and no more', () => {
    expect(to_ids([1, -100], 'labels', { allow: [-100] }).data).toEqual(Int32Array.of(1, -100))
    expect(() => to_ids([1, -1], 'labels', { allow: [-100] })).toThrow('or -100')
    expect(() => to_ids([7], 'input_ids', { vocab_size: 7 })).toThrow('from 0 to 6')
  })

  it('does not follow nesting without end', () => {
    const loop: unknown[] = []
    loop.push(loop)
    expect(() => to_ids(loop as never, 'input_ids')).toThrow(InputError)
  })
})

describe('to_mask', () => {
  it('takes numbers, bigints and booleans', () => {
    for (const input of [[[1, 0]], [[true, false]], [[1n, 0n]], Float32Array.of(1, 0), new Tensor('bool', [1, 0])]) {
      expect(to_mask(input as never, 'attention_mask')).toEqual({ data: Int32Array.of(1, 0), dims: [1, 2] })
    }
  })

  it('refuses other values, another shape and rows without a token', () => {
    expect(() => to_mask([[1, 2]], 'attention_mask')).toThrow('attention_mask[0][1] is 2; expected 0 or 1')
    expect(() => to_mask([[1, 0.5]], 'attention_mask')).toThrow(InputError)
    expect(() => to_mask([[1, 1]], 'attention_mask', { dims: [1, 3] })).toThrow('has shape [1, 2]; expected [1, 3]')
    expect(() =>
      to_mask(
        [
          [1, 0],
          [0, 0],
        ],
        'attention_mask',
      ),
    ).toThrow('attention_mask row 1 is all zero')
  })
})

describe('to_floats', () => {
  it('takes exactly as many dimensions as asked for', () => {
    expect(to_floats([[[1, 2.5]]], 'inputs_embeds', 3)).toEqual({ data: Float32Array.of(1, 2.5), dims: [1, 1, 2] })
    expect(to_floats(grid(), 'scores', 2).dims).toEqual([2, 3])
    expect(to_floats([Number.NEGATIVE_INFINITY], 'scores', 1).data[0]).toBe(Number.NEGATIVE_INFINITY)
    expect(() => to_floats([[1]], 'inputs_embeds', 3)).toThrow('has 2 dimensions, [1, 1]; expected 3')
    expect(() => to_floats([Number.NaN], 'scores', 1)).toThrow('scores[0] is NaN')
    expect(to_floats([Number.NaN], 'scores', 1, { allow_nan: true }).data[0]).toBeNaN()
    expect(() => to_floats(['x'], 'scores', 1, { allow_nan: true })).toThrow(InputError)
  })
})

/** The library under test, and the fixtures, in whichever place the suite runs. */

import type { Backend } from '../../ts/backend/contract.js'
import { select_backend } from '../../ts/backend/select.js'
import { unwire_all } from '../../ts/backend/wire.js'
import { open_repository } from '../../ts/hub/index.js'
import type { Tensor } from '../../ts/tensor.js'
import { backend } from './backend.js'

export { backend } from './backend.js'
export * from './host.js'

export function backend_under_test(): Promise<Backend> {
  return select_backend({ backend })
}

/** All tensors of a safetensors file, read by the library itself. */
export async function read_tensors(folder: string, file: string): Promise<Map<string, Tensor>> {
  const chosen = await backend_under_test()
  const repository = await open_repository(folder)
  const source = await repository.source(file)
  if (source === null) throw await repository.absent(file)
  const { checkpoint } = (await chosen.call('checkpoint_open', {}, [], [source])).reply
  try {
    return unwire_all((await chosen.call('checkpoint_read', { checkpoint })).tensors)
  } finally {
    await chosen.call('release', { handle: checkpoint })
    repository.close()
  }
}

/** A JSON file of a fixture. */
export async function read_json<T>(folder: string, file: string): Promise<T> {
  const repository = await open_repository(folder)
  const bytes = await repository.read(file)
  if (bytes === null) throw await repository.absent(file)
  return JSON.parse(new TextDecoder().decode(bytes)) as T
}

/** ‖actual − expected‖ / ‖expected‖ over all elements; the difference itself where the expected values are all 0. */
export function relative_error(actual: Tensor, expected: Tensor): number {
  if (actual.size !== expected.size) return Number.POSITIVE_INFINITY
  let difference = 0
  let norm = 0
  for (let index = 0; index < expected.size; index++) {
    const reference = Number(expected.data[index])
    difference += (Number(actual.data[index]) - reference) ** 2
    norm += reference ** 2
  }
  return norm === 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm)
}

/** The rows of an int64 tensor as numbers. */
export function rows_of(tensor: Tensor): number[][] {
  return (tensor.tolist() as bigint[][]).map((row) => row.map(Number))
}

/** The error that a call ends with. */
export async function failure_of(
  run: () => unknown,
): Promise<{ code?: string; message: string; details?: unknown; name: string }> {
  try {
    await run()
  } catch (error) {
    return error as { code?: string; message: string; name: string }
  }
  throw new Error('it did not fail')
}

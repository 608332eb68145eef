/** Reading the tensors of checkpoint files, without a model. */

import type { Backend, TensorEntry } from '../backend/contract.js'
import { unwire_all } from '../backend/wire.js'
import type { Repository } from '../hub/index.js'
import type { Tensor } from '../tensor.js'

export interface OpenCheckpoint {
  /** Every tensor, as the files' headers describe it. */
  readonly tensors: TensorEntry[]
  readonly metadata: Record<string, string>
  /** Sizes of the files, in bytes. */
  readonly files: { name: string; size: number }[]
  /** Values by name, as float32, or int64 for integers. All when `names` is left out. */
  read(names?: string[]): Promise<Map<string, Tensor>>
  close(): Promise<void>
}

/**
 * Opens files of a repository and reads their headers.
 *
 * @param index The text of `*.index.json`, for shards.
 * @throws {SwitchTransformersError} FILE_NOT_FOUND for a missing file, and CHECKPOINT_CORRUPT, CHECKPOINT_UNSAFE or
 * CHECKPOINT_UNSUPPORTED for what cannot be read.
 */
export async function open_checkpoint(
  backend: Backend,
  repository: Repository,
  names: readonly string[],
  index?: string,
): Promise<OpenCheckpoint> {
  const sources = await Promise.all(
    names.map(async (name) => {
      const source = await repository.source(name)
      if (source === null) throw await repository.absent(name)
      return source
    }),
  )
  const request = index === undefined ? {} : { index }
  const { checkpoint, tensors, metadata } = (await backend.call('checkpoint_open', request, [], sources)).reply
  return {
    tensors,
    metadata,
    files: sources.map(({ size }, i) => ({ name: names[i] as string, size })),
    async read(wanted) {
      const request = wanted === undefined ? { checkpoint } : { checkpoint, names: wanted }
      return unwire_all((await backend.call('checkpoint_read', request)).tensors)
    },
    async close() {
      await backend.call('release', { handle: checkpoint })
    },
  }
}

/** Tensor names in groups whose values fit into about `max_bytes` as float32, so that no more is in memory at once. */
export function in_batches(tensors: readonly TensorEntry[], max_bytes = 32 * 2 ** 20): string[][] {
  const batches: string[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const { name, shape } of tensors) {
    const size = 4 * shape.reduce((product, length) => product * length, 1)
    if (bytes + size > max_bytes) {
      batches.push([])
      bytes = 0
    }
    batches[batches.length - 1]?.push(name)
    bytes += size
  }
  return batches
}

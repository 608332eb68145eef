/** Files for tokenizers under test: a fixture's, some of them replaced. */

import { open_repository } from '../../ts/hub/index.js'
import type { FileReader } from '../../ts/tokenizer/index.js'

export async function read_bytes(folder: string, file: string): Promise<Uint8Array> {
  const repository = await open_repository(folder)
  try {
    const bytes = await repository.read(file)
    if (bytes === null) throw await repository.absent(file)
    return bytes
  } finally {
    repository.close()
  }
}

/** Reads a folder's files, with some replaced: by bytes, by a text, by the JSON of an object, or `null` for none. */
export async function reader(
  folder: string,
  replaced: Record<string, Uint8Array | string | object | null>,
): Promise<FileReader> {
  const repository = await open_repository(folder)
  return async (file) => {
    const content = replaced[file]
    if (content === undefined) return repository.read(file)
    if (content === null || content instanceof Uint8Array) return content
    return new TextEncoder().encode(typeof content === 'string' ? content : JSON.stringify(content))
  }
}

/** Whole files or none, in a browser's origin private file system: a file appears there when its writer is closed. */

import { InputError } from '../errors.js'
import { OpfsStore } from '../training/store/opfs_store.js'
import type { FileWriter } from './files.js'
import { show } from './json.js'

export const browser_file_writer: FileWriter = {
  async write(directory, name, chunks) {
    await (await store_at(directory)).write(name, chunks)
  },

  async list(directory) {
    return (await (await store_at(directory)).files()).map(({ name }) => name)
  },

  async remove(directory, name) {
    await (await store_at(directory)).remove(name)
  },
}

async function store_at(directory: unknown): Promise<OpfsStore> {
  if (typeof directory === 'string') return OpfsStore.open(directory)
  throw new InputError(`A folder to write into is named by its path, not by ${show(directory)}.`)
}

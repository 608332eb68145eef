/** Training's platform in browsers: addresses, and the origin private file system. */

import { FileError } from '../errors.js'
import type { TrainingPlatform } from './platform.js'
import { OpfsStore } from './store/opfs_store.js'

export const browser_training_platform: TrainingPlatform = {
  async *read_file(path) {
    const response = await fetch(path).catch((cause: unknown) => {
      throw new FileError('FILE_READ', `${path} cannot be fetched: ${String(cause)}.`, { cause, details: { path } })
    })
    if (!response.ok || response.body === null) {
      const code = response.status === 404 ? 'FILE_NOT_FOUND' : 'FILE_READ'
      throw new FileError(code, `${path} cannot be fetched: status ${response.status}.`, { details: { path } })
    }
    const reader = response.body.getReader()
    try {
      for (;;) {
        const { done, value } = await reader.read()
        if (done) return
        yield value
      }
    } finally {
      await reader.cancel().catch(() => {})
    }
  },

  open_store: (output_dir) => OpfsStore.open(output_dir),

  folder_files: (folder) => OpfsStore.files_at(folder),

  async temporary_source(name, chunks) {
    const blob = new Blob([...chunks] as BlobPart[])
    return { source: { name, size: blob.size, blob }, remove: async () => {} }
  },
}

/** Training's platform in Node: files and folders. */

import { createReadStream } from 'node:fs'
import { FileError } from '../errors.js'
import type { TrainingPlatform } from './platform.js'
import { FolderStore } from './store/folder_store.js'

export const node_training_platform: TrainingPlatform = {
  async *read_file(path) {
    try {
      for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 16 })) yield chunk as Buffer
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException
      if (code === 'ENOENT') throw new FileError('FILE_NOT_FOUND', `${path} does not exist.`, { cause })
      if (code === undefined) throw cause
      const reason = code === 'EISDIR' ? 'it is a folder' : code
      throw new FileError('FILE_READ', `${path} cannot be read: ${reason}.`, { cause, details: { path, reason: code } })
    }
  },

  open_store: async (output_dir) => new FolderStore(output_dir),
}

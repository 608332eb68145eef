/** Training's platform in Node: files and folders. */

import { File, type Blob as NodeBlob } from 'node:buffer'
import { createReadStream, openAsBlob } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Source } from '../backend/contract.js'
import { FileError } from '../errors.js'
import type { TrainingPlatform } from './platform.js'
import { FolderStore } from './store/folder_store.js'

export const node_training_platform: TrainingPlatform = {
  async *read_file(file) {
    try {
      for await (const chunk of createReadStream(file, { highWaterMark: 2 ** 16 })) yield chunk as Buffer
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException
      if (code === 'ENOENT') throw new FileError('FILE_NOT_FOUND', `${file} does not exist.`, { cause })
      if (code === undefined) throw cause
      const reason = code === 'EISDIR' ? 'it is a folder' : code
      throw new FileError('FILE_READ', `${file} cannot be read: ${reason}.`, {
        cause,
        details: { path: file, reason: code },
      })
    }
  },

  open_store: async (output_dir) => new FolderStore(output_dir),

  async folder_files(folder) {
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
    const names = entries.filter((entry) => entry.isFile() && !entry.name.startsWith('.')).map(({ name }) => name)
    // What is missing beside a browser's is the path of a folder that was chosen by hand.
    const open = async (name: string) => new File([(await openAsBlob(path.join(folder, name))) as NodeBlob], name)
    return Promise.all(names.map(open)) as Promise<unknown[]> as Promise<globalThis.File[]>
  },

  async temporary_source(name, chunks) {
    const folder = await mkdtemp(path.join(tmpdir(), 'switch-transformers-'))
    const remove = () => rm(folder, { recursive: true, force: true })
    const store = new FolderStore(folder)
    try {
      await store.write(name, chunks)
      return { source: (await store.source(name)) as Source, remove }
    } catch (error) {
      await remove()
      throw error
    }
  },
}

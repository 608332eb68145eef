/** Whole files or none: temporary file, fsync, rename. Node only. */

import { randomUUID } from 'node:crypto'
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'

import { FileError, InputError, SwitchTransformersError } from '../errors.js'
import type { FileWriter } from './files.js'
import { show } from './json.js'

export const node_file_writer: FileWriter = {
  async write(directory, name, chunks) {
    if (typeof directory !== 'string' || directory.trim() === '') {
      throw new InputError(`A folder to write into is named by its path, not by ${show(directory)}.`)
    }
    const path = join(directory, name)
    const temporary = join(directory, `.${name}.${randomUUID()}.tmp`)
    try {
      await mkdir(directory, { recursive: true })
      const file = await open(temporary, 'wx')
      try {
        for await (const chunk of chunks) await file.writeFile(chunk)
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(temporary, path)
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {})
      if (error instanceof SwitchTransformersError) throw error
      const reason = error instanceof Error ? error.message : String(error)
      throw new FileError('FILE_READ', `${path} cannot be written: ${reason}.`, { cause: error, details: { path } })
    }
  },

  async list(directory) {
    try {
      return await readdir(directory)
    } catch {
      return []
    }
  },

  async remove(directory, name) {
    await rm(join(directory, name), { force: true })
  },
}

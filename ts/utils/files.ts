/** Writing files, where there are files. The Node entry sets the writer. */

import { FileError } from '../errors.js'

export interface FileWriter {
  /**
   * Writes `directory/name` from chunks: into a temporary file beside it, forced to the disk, then renamed, so that
   * nobody ever sees half a file. Makes the directory where it is missing.
   *
   * @throws {FileError} `FILE_READ` when it cannot be written.
   */
  write(directory: string, name: string, chunks: AsyncIterable<Uint8Array>): Promise<void>
}

let writer: FileWriter | undefined

export function set_file_writer(value: FileWriter): void {
  writer = value
}

export async function write_file(directory: string, name: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  if (writer === undefined) {
    throw new FileError('FILE_READ', `${name} cannot be written: there are no files in a browser. Save from Node.`)
  }
  await writer.write(directory, name, chunks)
}

export async function write_text_file(directory: string, name: string, text: string): Promise<void> {
  await write_file(directory, name, once(new TextEncoder().encode(text)))
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}

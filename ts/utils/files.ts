/** Writing files: into folders, which the Node entry's writer does, or into the origin private file system. */

export interface FileWriter {
  /**
   * Writes `directory/name` from chunks: into a temporary file beside it, forced to the disk, then renamed, so that
   * nobody ever sees half a file. Makes the directory where it is missing.
   *
   * @throws {FileError} `FILE_READ` when it cannot be written.
   */
  write(directory: string, name: string, chunks: AsyncIterable<Uint8Array>): Promise<void>
  /** Names of the files in a directory; none where it is missing. */
  list(directory: string): Promise<string[]>
  remove(directory: string, name: string): Promise<void>
}

let writer: FileWriter | undefined

export function set_file_writer(value: FileWriter): void {
  writer = value
}

async function get_writer(): Promise<FileWriter> {
  writer ??= (await import('./browser_files.js')).browser_file_writer
  return writer
}

export async function write_file(directory: string, name: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  await (await get_writer()).write(directory, name, chunks)
}

export async function write_text_file(directory: string, name: string, text: string): Promise<void> {
  await write_file(directory, name, once(new TextEncoder().encode(text)))
}

/** Names of the files in a directory; none where it is missing. */
export async function list_files(directory: string): Promise<string[]> {
  return (await get_writer()).list(directory)
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}

const WEIGHTS = /^(?:model(?:-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json)$/

/** Removes weights that an earlier save left in `directory` and that would be loaded instead of `keep`. */
export async function remove_stale_weights(directory: string, keep: readonly string[]): Promise<void> {
  for (const name of await list_files(directory)) {
    if (WEIGHTS.test(name) && !keep.includes(name)) await (await get_writer()).remove(directory, name)
  }
}

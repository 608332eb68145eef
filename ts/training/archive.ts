/** A folder of files as a tar archive (POSIX.1-1988, `ustar`) that is put together from blobs. */

import { FileError, InputError, OptionError } from '../errors.js'
import { show } from '../utils/json.js'
import { get_training_platform } from './platform.js'

const BLOCK = 512
/** Sizes have eleven octal digits. */
const LARGEST = 8 ** 11

export async function folder_files(folder: string): Promise<File[]> {
  if (typeof folder !== 'string' || folder.trim() === '') {
    throw new InputError(`A folder is named by its path, not by ${show(folder)}.`)
  }
  const files = await (await get_training_platform()).folder_files(folder)
  if (files.length === 0) {
    throw new FileError('FILE_NOT_FOUND', `There are no files in ${folder}. Save a model there first.`, {
      details: { folder },
    })
  }
  return files.sort((a, b) => (a.name < b.name ? -1 : 1))
}

export async function archive(folder: string): Promise<File> {
  const files = await folder_files(folder)
  const parts = folder.replace(/^opfs:/, '').split(/[\\/]/)
  const name = parts.filter((part) => part !== '' && part !== '.' && part !== '..').at(-1) ?? 'model'
  const blocks: BlobPart[] = []
  for (const file of files) {
    blocks.push(header(`${name}/${file.name}`, file), file, new Uint8Array(-file.size & (BLOCK - 1)))
  }
  // Two empty blocks end an archive.
  blocks.push(new Uint8Array(2 * BLOCK))
  return new File(blocks, `${name}.tar`, { type: 'application/x-tar' })
}

function header(path: string, { size, lastModified }: File): Uint8Array<ArrayBuffer> {
  const encoder = new TextEncoder()
  const name = encoder.encode(path)
  if (name.length > 100 || size >= LARGEST) {
    throw new InputError(`${path}, of ${size} bytes, does not fit a tar archive. Take it from model_folder_files.`)
  }
  const block = new Uint8Array(BLOCK)
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, '0')}\0`
  const fields: [number, string][] = [
    [100, octal(0o644, 7)],
    [108, octal(0, 7)],
    [116, octal(0, 7)],
    [124, octal(size, 11)],
    [136, octal(Math.floor(lastModified / 1000), 11)],
    // The checksum counts as spaces while it is summed up.
    [148, ' '.repeat(8)],
    [156, '0'],
    [257, 'ustar\u000000'],
  ]
  block.set(name)
  for (const [at, text] of fields) block.set(encoder.encode(text), at)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.set(encoder.encode(`${octal(sum, 6)} `), 148)
  return block
}

export async function download(folder: string): Promise<void> {
  if (typeof document === 'undefined') {
    throw new OptionError('UNSUPPORTED_OPTION', 'download_model needs a page. Use model_archive or model_folder_files.')
  }
  const file = await archive(folder)
  const address = URL.createObjectURL(file)
  const link = document.createElement('a')
  link.href = address
  link.download = file.name
  document.body.append(link)
  link.click()
  link.remove()
  // The browser has taken it up by then; it keeps what it reads.
  setTimeout(() => URL.revokeObjectURL(address), 60_000)
}

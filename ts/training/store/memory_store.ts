/** A store in memory, for trainings that need not outlive the page or the process. */

import type { Source } from '../../backend/contract.js'
import type { StoredFile, TrainingStore } from './store.js'

export class MemoryStore implements TrainingStore {
  readonly location = 'memory'
  readonly #folders = new Map<string, Map<string, Uint8Array>>()
  readonly #files = new Map<string, Uint8Array>()

  async folders(): Promise<string[]> {
    return [...this.#folders.keys()]
  }

  async write_folder(name: string, files: AsyncIterable<StoredFile> | Iterable<StoredFile>): Promise<void> {
    const folder = new Map<string, Uint8Array>()
    for await (const file of files) folder.set(file.name, await collect(file.chunks))
    this.#folders.set(name, folder)
  }

  async remove_folder(name: string): Promise<void> {
    this.#folders.delete(name)
  }

  async files(folder?: string): Promise<{ name: string; size: number }[]> {
    return [...this.#of(folder)].map(([name, bytes]) => ({ name, size: bytes.byteLength }))
  }

  async read(name: string, folder?: string): Promise<Uint8Array | null> {
    return this.#of(folder).get(name) ?? null
  }

  async source(name: string, folder?: string): Promise<Source | null> {
    const bytes = this.#of(folder).get(name)
    // A copy: what is sent to a worker is not here any more.
    return bytes === undefined ? null : { name, size: bytes.byteLength, bytes: bytes.slice() }
  }

  async write(name: string, chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
    this.#files.set(name, await collect(chunks))
  }

  async append(name: string, text: string): Promise<void> {
    const added = new TextEncoder().encode(text)
    this.#files.set(name, join([this.#files.get(name) ?? new Uint8Array(), added]))
  }

  async remove(name: string): Promise<void> {
    this.#files.delete(name)
  }

  async tidy(): Promise<void> {}

  #of(folder: string | undefined): Map<string, Uint8Array> {
    return folder === undefined ? this.#files : (this.#folders.get(folder) ?? new Map())
  }
}

async function collect(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  for await (const chunk of chunks) parts.push(chunk)
  return join(parts)
}

function join(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.byteLength
  }
  return whole
}

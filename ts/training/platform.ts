/** What training needs of its platform: reading data files, and a place for checkpoints. */

import type { Source } from '../backend/contract.js'
import { InternalError } from '../errors.js'
import type { TrainingStore } from './store/store.js'

export interface TrainingPlatform {
  /** The bytes of a path (Node) or an address (browsers). */
  read_file(path: string): AsyncIterable<Uint8Array>
  /** The store that `output_dir` means. */
  open_store(output_dir: string): Promise<TrainingStore>
  /** The files of a folder that a training or `save_pretrained` wrote, read when they are used; none where it is missing. */
  folder_files(folder: string): Promise<File[]>
  /** A file that exists until it is removed, in the form that this platform's backends read. */
  temporary_source(name: string, chunks: Iterable<Uint8Array>): Promise<{ source: Source; remove: () => Promise<void> }>
}

let load: (() => Promise<TrainingPlatform>) | undefined

/** Registers how the platform is loaded. Called once by the entry for Node or for browsers. */
export function set_training_platform(loader: () => Promise<TrainingPlatform>): void {
  load = loader
}

export function get_training_platform(): Promise<TrainingPlatform> {
  if (load === undefined) {
    throw new InternalError('No training platform is registered. Import the package by its name, not by a file.')
  }
  return load()
}

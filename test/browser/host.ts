/** The library in a page, run by the built worker, and where the fixtures are: served from the repository's root. */

import { inject } from 'vitest'
import { env } from '../../ts/entry/browser.js'
import './context.js'

export * from '../../ts/entry/browser.js'

// The sources have no worker that a browser can run.
env.wasm.worker_url = '/dist/wasm_worker.js'
env.wasm.artefact = inject('artefact')

export function fixture(name: string): string {
  return `/test/fixtures/${name}`
}

export const g2p = '/ts/assets/g2p'

/** A folder of the origin private file system for what a training writes, and how it is removed. */
export function training_folder(): { folder: string; remove: () => Promise<void> } {
  const folder = `training-${crypto.randomUUID()}`
  return {
    folder,
    remove: async () => (await navigator.storage.getDirectory()).removeEntry(folder, { recursive: true }),
  }
}

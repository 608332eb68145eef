/** The library in Node, and where the fixtures are. In browsers, test/browser/host.ts takes this file's place. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export * from '../../ts/entry/node.js'

/** The folder of a fixture. */
export function fixture(name: string): string {
  return fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url))
}

/** The embedded model's folder. */
export const g2p = fileURLToPath(new URL('../../ts/assets/g2p', import.meta.url))

/** A folder for what a training writes, and how it is removed. */
export function training_folder(): { folder: string; remove: () => Promise<void> } {
  const folder = mkdtempSync(join(tmpdir(), 'training-'))
  return { folder, remove: async () => rmSync(folder, { recursive: true, force: true }) }
}

/** The library in Node, and where the fixtures are. In browsers, test/browser/host.ts takes this file's place. */

import { fileURLToPath } from 'node:url'

export * from '../../ts/entry/node.js'

/** The folder of a fixture. */
export function fixture(name: string): string {
  return fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url))
}

/** The embedded model's folder. */
export const g2p = fileURLToPath(new URL('../../ts/assets/g2p', import.meta.url))

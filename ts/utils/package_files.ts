/** Where this package's own files are. Node only. */

import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * The path of a file of this package: `dist/…` wherever it is installed, and anything else in a clone.
 *
 * Written without `new URL('…', import.meta.url)`: a bundler takes that for a file to be bundled, and those that bundle
 * this entry for a server (Next does, to render pages there) would fail over what is not there.
 */
export function package_file(path: string): string {
  return join(package_folder(), path)
}

/** The folder of package.json, above this file or the bundle that it became a part of. */
function package_folder(): string {
  const here = dirname(fileURLToPath(import.meta.url.replace(/[?#].*$/, '')))
  for (let folder = here; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return folder
    if (folder === dirname(folder)) return here
  }
}

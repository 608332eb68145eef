/** The model that ships with the package. Node only. */

import { existsSync } from 'node:fs'
import { BackendError } from '../errors.js'
import { package_file } from '../utils/package_files.js'

/** A name for the model, where one is to be shown: English spelling to pronunciation. */
export const EMBEDDED_MODEL = 'g2p'

/** As it is shipped, and in a clone that is not built. */
const PLACES = [`dist/assets/${EMBEDDED_MODEL}/`, `ts/assets/${EMBEDDED_MODEL}/`]

/**
 * The folder of the embedded checkpoint, for `from_pretrained`.
 *
 * @throws {BackendError} `BACKEND_UNAVAILABLE` where the package's files are incomplete.
 */
export function embedded_model_path(): string {
  for (const place of PLACES) {
    const folder = package_file(place)
    if (existsSync(`${folder}config.json`)) return folder
  }
  throw new BackendError(
    'BACKEND_UNAVAILABLE',
    `The embedded model (assets/${EMBEDDED_MODEL}) is not where the package is. Install the package again, or name a model.`,
  )
}

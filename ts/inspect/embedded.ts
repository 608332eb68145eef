/** The model that ships with the package. Node only. */

import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { BackendError } from '../errors.js'

/** A name for the model, where one is to be shown: English spelling to pronunciation. */
export const EMBEDDED_MODEL = 'g2p'

/** Beside the built entry, and beside this folder where the sources themselves run. */
const PLACES = [`./assets/${EMBEDDED_MODEL}/`, `../assets/${EMBEDDED_MODEL}/`]

/**
 * The folder of the embedded checkpoint, for `from_pretrained`.
 *
 * @throws {BackendError} `BACKEND_UNAVAILABLE` where the package's files are incomplete.
 */
export function embedded_model_path(): string {
  for (const place of PLACES) {
    const folder = fileURLToPath(new URL(place, import.meta.url))
    if (existsSync(`${folder}config.json`)) return folder
  }
  throw new BackendError(
    'BACKEND_UNAVAILABLE',
    `The embedded model (assets/${EMBEDDED_MODEL}) is not where the package is. Install the package again, or name a model.`,
  )
}

/** Settings of the whole library. */

import { wasm } from './backend/settings.js'

export const env = {
  /** Where the WASM module and its worker come from. Set before the first model is loaded. */
  wasm,
}

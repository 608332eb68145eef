/** Settings of the whole library, with the names that transformers.js gives them. Options of a call win over them. */

import { wasm } from './backend/settings.js'

export interface Environment {
  /** Where the WASM module and its worker come from. Set before the first model is loaded. */
  wasm: typeof wasm
  /** Whether anything may be downloaded. False is `local_files_only: true` for every call. Default true. */
  allowRemoteModels: boolean
  /** Address of the hub; null for the environment's, else huggingface.co. Option `endpoint`. */
  remoteHost: string | null
  /** Folder of the cache; null for the place that Python's hub client uses. Option `cache_dir`. */
  cacheDir: string | null
  /** Used instead of the global `fetch`; null for that. Option `fetch`. */
  fetch: typeof fetch | null
}

export const env: Environment = {
  wasm,
  allowRemoteModels: true,
  remoteHost: null,
  cacheDir: null,
  fetch: null,
}

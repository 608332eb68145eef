/** Which of the module's three forms an engine can run, found before anything is downloaded. */

import { BackendError, OptionError } from '../errors.js'
import { show } from '../utils/json.js'

/**
 * `simd`: SIMD128, one thread. `threads`: SIMD128, and threads over shared memory. `relaxed`: relaxed SIMD; its memory
 * is shared too, so it has threads wherever memory can be shared with workers.
 */
export type WasmArtefact = 'simd' | 'threads' | 'relaxed'

export const ARTEFACTS: readonly WasmArtefact[] = ['simd', 'threads', 'relaxed']

/** More than this gains nothing in models of these sizes. */
const MOST_THREADS = 8

export interface Artefact {
  artefact: WasmArtefact
  /** Threads in all, that of the model included. */
  threads: number
}

/** Whether the engine knows the instructions of `body`, which leave one vector. */
function knows(...body: number[]): boolean {
  const header = [0, 97, 115, 109, 1, 0, 0, 0]
  const type = [1, 5, 1, 96, 0, 1, 123]
  const functions = [3, 2, 1, 0]
  const code = [10, body.length + 4, 1, body.length + 2, 0, ...body, 11]
  return WebAssembly.validate(new Uint8Array([...header, ...type, ...functions, ...code]))
}

/** `i32.const 0`, `i32x4.splat` */
const VECTOR = [65, 0, 253, 17]
/** `f32x4.relaxed_madd` */
const RELAXED_MADD = [253, 133, 2]

/** Whether the engine has atomics and memory that is made to be shared. Pages need not be isolated for that. */
function has_shared_memory(): boolean {
  try {
    const { buffer } = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true })
    return !(buffer instanceof ArrayBuffer)
  } catch {
    return false
  }
}

/** Whether that memory can be sent to workers: in browsers, in pages that are isolated from those of other origins. */
function can_share(): boolean {
  return (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated !== false
}

/**
 * The best artefact for this engine, or the one that was asked for.
 *
 * @param wanted `auto`, or the name of an artefact.
 * @param threads How many were asked for. Default: as many as the machine has, 8 at most.
 * @param concurrency Threads that the machine runs at once.
 * @throws {BackendError} `BACKEND_UNAVAILABLE` where the engine cannot run it, or none.
 * @throws {OptionError} `INVALID_OPTION`
 */
export function choose_artefact(wanted: unknown, threads: unknown, concurrency: number): Artefact {
  if (wanted !== 'auto' && !ARTEFACTS.includes(wanted as WasmArtefact)) {
    throw invalid('artefact', `must be 'auto' or one of ${ARTEFACTS.join(', ')}, not ${show(wanted)}`)
  }
  if (threads !== undefined && !(Number.isInteger(threads) && (threads as number) > 0)) {
    throw invalid('threads', `must be a whole number above 0, not ${show(threads)}`)
  }
  if (typeof WebAssembly === 'undefined') throw unavailable('This engine has no WebAssembly.')
  if (!knows(...VECTOR)) {
    throw unavailable(
      "This engine's WebAssembly has no SIMD: Chrome 91, Firefox 89 or Safari 16.4 is needed, or newer.",
    )
  }
  const shared = has_shared_memory()
  const relaxed = shared && knows(...VECTOR, ...VECTOR, ...VECTOR, ...RELAXED_MADD)
  const most = shared && can_share() ? ((threads as number | undefined) ?? Math.min(concurrency, MOST_THREADS)) : 1
  if (wanted === 'threads' && (!shared || !can_share())) {
    throw unavailable(
      "Threads need a page that is isolated from other origins: serve it with Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp. Or leave env.wasm.artefact at 'auto'.",
    )
  }
  if (wanted === 'relaxed' && !relaxed) {
    throw unavailable("This engine's WebAssembly has no relaxed SIMD. Leave env.wasm.artefact at 'auto'.")
  }
  const best = relaxed ? 'relaxed' : most > 1 ? 'threads' : 'simd'
  const artefact = wanted === 'auto' ? best : (wanted as WasmArtefact)
  return { artefact, threads: artefact === 'simd' ? 1 : most }
}

function invalid(option: string, what: string): OptionError {
  return new OptionError('INVALID_OPTION', `env.wasm.${option} ${what}.`, { details: { option: `env.wasm.${option}` } })
}

function unavailable(message: string): BackendError {
  return new BackendError('BACKEND_UNAVAILABLE', message)
}

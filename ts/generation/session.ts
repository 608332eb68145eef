/** One generation in the engine, driven step by step from here so that hooks, streams, limits and aborts are one code. */

import type { Operations, WireTensor } from '../backend/contract.js'
import { unwire, wire } from '../backend/wire.js'
import { InternalError, throw_if_aborted } from '../errors.js'
import { BackendHandle } from '../models/handle.js'
import type { Tensor } from '../tensor.js'
import { run_processors } from './logits_process.js'
import type { GenerationHost, PreparedGeneration } from './prepare.js'
import { run_criteria } from './stopping_criteria.js'

/** New tokens of one or more steps. */
export interface StepEvent {
  /** [row, token] in the order in which they were chosen. */
  tokens: readonly (readonly [row: number, token: number])[]
  /** Beside `tokens`, where they were asked for: the expert of each sparse layer that took part in choosing it. */
  routes?: readonly (readonly number[])[]
  /** Rows that criteria have ended with these tokens. */
  stopped: readonly number[]
  done: boolean
}

/** How long the engine may work before it looks up, when nobody waits for single tokens. */
const QUIET_MS = 10
const MANY_STEPS = 2 ** 20

/** Sequences that the engine shows between two parts of a step. */
interface Shown {
  rows: number[]
  input_ids: number[][]
}

export class GenerationSession {
  /** Sequences that are generated: rows of input times `num_return_sequences`. */
  readonly rows: number
  readonly #host: GenerationHost
  readonly #prepared: PreparedGeneration
  readonly #handle: BackendHandle
  #scores: { shown: Shown; scores: WireTensor } | null = null
  #candidates: Shown | null = null

  private constructor(host: GenerationHost, prepared: PreparedGeneration, handle: BackendHandle, rows: number) {
    this.#host = host
    this.#prepared = prepared
    this.#handle = handle
    this.rows = rows
  }

  static async start(host: GenerationHost, prepared: PreparedGeneration): Promise<GenerationSession> {
    throw_if_aborted(prepared.signal)
    const { reply } = await host.handle.call(
      'generation_start',
      {
        model: host.handle.id,
        options: prepared.options,
        outputs: prepared.outputs,
        ...(prepared.profile && { profile: true }),
        ...(prepared.processors !== null && { pause_at_scores: true }),
        ...(prepared.criteria !== null && { pause_at_candidates: true }),
      },
      prepared.tensors,
    )
    const handle = new BackendHandle(host.handle.backend, reply.session, 'This generation')
    return new GenerationSession(host, prepared, handle, reply.rows)
  }

  /** Goes on until there are tokens, or for a while where `quiet`. */
  async step(quiet: boolean): Promise<StepEvent> {
    const { signal, criteria, processors } = this.#prepared
    const alone = quiet && criteria === null && processors === null
    let stopped: number[] = []
    for (;;) {
      throw_if_aborted(signal)
      const rows = this.#candidates?.rows ?? []
      const stop_candidates = this.#stopped_candidates()
      stopped = stop_candidates.map((index) => rows[index] as number)
      const scores = this.#processed_scores()
      // Throws when the model was disposed of meanwhile, by a hook perhaps: a session must not keep its weights.
      this.#host.handle.id
      const request = {
        session: this.#handle.id,
        max_steps: alone ? MANY_STEPS : 1,
        ...(alone && { max_ms: QUIET_MS }),
        ...(stop_candidates.length > 0 && { stop_candidates }),
      }
      const { reply, tensors } = await this.#handle.call('generation_step', request, scores)
      this.#remember(reply, tensors)
      if (this.#scores === null && this.#candidates === null) return { ...reply, stopped }
    }
  }

  /** The result. The session is gone afterwards. */
  async finish(): Promise<{ reply: Operations['generation_finish']['reply']; tensors: WireTensor[] }> {
    throw_if_aborted(this.#prepared.signal)
    const answer = await this.#handle.call('generation_finish', { session: this.#handle.id })
    this.#handle.forget()
    return answer
  }

  /** Frees the session, whatever its state. */
  async cancel(): Promise<void> {
    await this.#handle.dispose().catch(() => {})
  }

  /** Continuations that criteria end with their new token, by index. */
  #stopped_candidates(): number[] {
    const shown = this.#candidates
    const { criteria } = this.#prepared
    if (shown === null || criteria === null) return []
    this.#candidates = null
    const answers = run_criteria(criteria, shown.input_ids)
    return answers.flatMap((stop, index) => (stop ? [index] : []))
  }

  #processed_scores(): WireTensor[] {
    const paused = this.#scores
    const { processors } = this.#prepared
    if (paused === null || processors === null) return []
    this.#scores = null
    const scores = unwire(paused.scores) as Tensor<'float32'>
    const ids = paused.shown.input_ids.map((row) => row.map(BigInt))
    const processed = run_processors(processors, ids, scores)
    // A copy: the caller may keep the tensor, and write to it before the backend has read it.
    return [wire('scores', processed.data.slice(), processed.dims)]
  }

  #remember(reply: Operations['generation_step']['reply'], tensors: WireTensor[]): void {
    this.#candidates = reply.candidates ?? null
    if (reply.paused === undefined) return
    const scores = tensors.find((tensor) => tensor.name === 'scores')
    if (scores === undefined) throw new InternalError('The engine paused for scores and gave none.')
    this.#scores = { shown: reply.paused, scores }
  }
}

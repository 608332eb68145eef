/** The decoder's keys and values so far, kept in the backend. */

import '../utils/dispose_symbols.js'

import type { Backend } from '../backend/contract.js'
import { InputError } from '../errors.js'
import { show } from '../utils/json.js'
import { BackendHandle } from './handle.js'

/**
 * An opaque cache that a forward pass with `use_cache: true` returns and the next one takes. A pass appends to the
 * cache it is given and returns that same cache.
 *
 * It holds memory in the backend: dispose of it, or let the garbage collector do so.
 */
export class PastKeyValues {
  readonly #handle: BackendHandle

  constructor(backend: Backend, handle: number) {
    this.#handle = new BackendHandle(backend, handle, 'This cache of keys and values')
  }

  /** @internal The number that requests name it by; checks that it lives in `backend`. */
  id_in(backend: Backend): number {
    if (this.#handle.backend !== backend) {
      throw new InputError(
        'past_key_values comes from a model on another backend. Use the one that this model returned.',
      )
    }
    return this.#handle.id
  }

  get disposed(): boolean {
    return this.#handle.disposed
  }

  async dispose(): Promise<void> {
    await this.#handle.dispose()
  }

  [Symbol.dispose](): void {
    void this.dispose().catch(() => {})
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }
}

export function to_past_key_values(value: unknown): PastKeyValues | undefined {
  if (value === undefined || value === null) return undefined
  if (value instanceof PastKeyValues) return value
  throw new InputError(`past_key_values must be what an earlier call returned, not ${show(value)}.`)
}

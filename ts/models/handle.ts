/** A thing that lives in the backend, freed once: by `dispose`, or when nobody refers to it any more. */

import '../utils/dispose_symbols.js'

import type { Backend, OperationName, Operations, WireTensor } from '../backend/contract.js'
import { DisposedError } from '../errors.js'

interface Ownership {
  readonly backend: Backend
  readonly handle: number
  released: boolean
}

const forgotten = new FinalizationRegistry<Ownership>((ownership) => {
  void release(ownership).catch(() => {})
})

async function release(ownership: Ownership): Promise<void> {
  if (ownership.released) return
  ownership.released = true
  // A dead instance took its handles along.
  if (ownership.backend.failure !== null) return
  await ownership.backend.call('release', { handle: ownership.handle })
}

export class BackendHandle {
  readonly #ownership: Ownership
  readonly #what: string

  /** `what` names it in errors: `This model`. */
  constructor(backend: Backend, handle: number, what: string) {
    this.#ownership = { backend, handle, released: false }
    this.#what = what
    forgotten.register(this, this.#ownership, this)
  }

  get backend(): Backend {
    return this.#ownership.backend
  }

  get disposed(): boolean {
    return this.#ownership.released
  }

  /** The number that requests name it by. Throws a DisposedError once it is freed. */
  get id(): number {
    if (this.#ownership.released) {
      throw new DisposedError(`${this.#what} has been disposed of. Load it again, or dispose of it later.`)
    }
    return this.#ownership.handle
  }

  call<N extends OperationName>(
    name: N,
    request: Operations[N]['request'],
    tensors?: WireTensor[],
  ): Promise<{ reply: Operations[N]['reply']; tensors: WireTensor[] }> {
    return this.backend.call(name, request, tensors)
  }

  /** The backend has freed it itself. */
  forget(): void {
    this.#ownership.released = true
    forgotten.unregister(this)
  }

  /** Frees it. Later calls do nothing. What is under way in the backend ends first. */
  async dispose(): Promise<void> {
    forgotten.unregister(this)
    await release(this.#ownership)
  }
}

/** The WASM backend as the facade sees it: a worker, its calls in flight, and what becomes of them when it traps. */

import { BackendError, DisposedError, from_wire, InternalError } from '../errors.js'
import type { Backend, OperationName, Operations, Source, WireTensor } from './contract.js'
import type { FromWorker, WasmOrigin, WorkerPort } from './wasm_protocol.js'

interface Pending {
  resolve(value: { reply: never; tensors: WireTensor[] }): void
  reject(error: Error): void
}

/** The keys under which replies name handles. */
const HANDLES = ['checkpoint', 'load', 'model', 'past_key_values', 'plan', 'session'] as const

export class WasmBackend implements Backend {
  readonly name = 'wasm'
  failure: Error | null = null
  readonly #port: WorkerPort
  readonly #pending = new Map<number, Pending>()
  readonly #handles = new Set<number>()
  #next = 1
  #ready = false

  private constructor(port: WorkerPort) {
    this.#port = port
  }

  /** Starts a worker and its module. Rejects when it cannot be started, and leaves nothing behind then. */
  static async start(port: WorkerPort, origin: WasmOrigin): Promise<WasmBackend> {
    const backend = new WasmBackend(port)
    await new Promise<void>((resolve, reject) => {
      port.listen(
        (message) => {
          if (message.type === 'ready') {
            backend.#ready = true
            backend.#rest()
            resolve()
          } else if (message.type === 'failed') {
            backend.#die(from_wire(message.message))
            reject(backend.failure)
          } else {
            backend.#receive(message)
          }
        },
        (error) => {
          backend.#die(new InternalError(`The WASM worker ended: ${error.message}`, { cause: error }))
          reject(backend.failure)
        },
      )
      port.ref?.()
      port.post({ type: 'init', origin })
    })
    return backend
  }

  /** How many handles (models, sessions, …) live in this instance. */
  get live_handles(): number {
    return this.#handles.size
  }

  async call<N extends OperationName>(
    name: N,
    request: Operations[N]['request'],
    tensors: WireTensor[] = [],
    sources: Source[] = [],
  ): Promise<{ reply: Operations[N]['reply']; tensors: WireTensor[] }> {
    if (this.failure !== null) throw dead(this.failure)
    const id = this.#next++
    const result = new Promise<{ reply: Operations[N]['reply']; tensors: WireTensor[] }>((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as Pending['resolve'], reject })
    })
    this.#port.ref?.()
    try {
      this.#port.post({
        type: 'call',
        id,
        name,
        request: JSON.stringify(request),
        tensors,
        sources: sources.map(plain),
      })
    } catch (error) {
      this.#pending.delete(id)
      this.#rest()
      throw new InternalError(`A call could not be sent to the WASM worker: ${String(error)}`, { cause: error })
    }
    const answer = await result
    this.#track(name, request, answer.reply)
    return answer
  }

  async terminate(): Promise<void> {
    if (this.failure === null) this.#die(new DisposedError('The WASM backend has been terminated.'))
    await this.#port.terminate()
  }

  #receive(message: FromWorker): void {
    if (message.type === 'ready' || message.type === 'failed') return
    const pending = this.#pending.get(message.id)
    if (pending === undefined) return
    this.#pending.delete(message.id)
    if (message.type === 'reply') {
      pending.resolve({ reply: JSON.parse(message.json) as never, tensors: message.tensors })
    } else if (message.type === 'error') {
      pending.reject(from_wire(message.message))
    } else {
      const error = trapped(message)
      pending.reject(error)
      this.#die(error)
    }
    this.#rest()
  }

  /** Lets the process end when nothing is under way. */
  #rest(): void {
    if (this.#ready && this.#pending.size === 0) this.#port.unref?.()
  }

  #die(reason: Error): void {
    if (this.failure !== null) return
    this.failure = reason
    for (const { reject } of this.#pending.values()) reject(dead(reason))
    this.#pending.clear()
    this.#handles.clear()
    this.#port.unref?.()
    void this.#port.terminate().catch(() => {})
  }

  #track(name: OperationName, request: object, reply: object): void {
    if (name === 'release' || name === 'generation_finish') {
      const { handle, session } = request as { handle?: number; session?: number }
      this.#handles.delete(handle ?? session ?? 0)
      return
    }
    if (name === 'model_load_step' && 'model' in reply) this.#handles.delete((request as { load: number }).load)
    for (const key of HANDLES) {
      const handle = (reply as Record<string, unknown>)[key]
      if (typeof handle === 'number') this.#handles.add(handle)
    }
  }
}

/** Why an instance trapped: its memory was full, or there is a bug. */
function trapped({ message, failed_allocation }: Extract<FromWorker, { type: 'trapped' }>): Error {
  const aftermath = 'Its models are gone; the next one to be loaded gets a fresh instance.'
  if (failed_allocation > 0) {
    const text = `The WASM module is out of memory: ${failed_allocation} more bytes could not be had. ${aftermath} Use a smaller dtype or fewer rows.`
    return new BackendError('OUT_OF_MEMORY', text, { details: { failed_allocation } })
  }
  return new InternalError(`The WASM module failed (${message}). ${aftermath}`)
}

/** What calls get once the instance is gone. */
function dead(reason: Error): Error {
  if (reason instanceof DisposedError) return reason
  return new DisposedError(`The WASM instance that held this is gone: ${reason.message} Load it again.`, {
    cause: reason,
  })
}

/** A source without functions, which cannot be posted. */
function plain({ name, size, path, blob, bytes }: Source): Source {
  return { name, size, ...(path !== undefined && { path }), ...(blob && { blob }), ...(bytes && { bytes }) }
}

/** The WASM backend as the facade sees it: a worker, its calls in flight, and what becomes of them when it traps. */

import { BackendError, DisposedError, from_wire, InternalError } from '../errors.js'
import type { Backend, OperationName, Operations, Source, WireTensor } from './contract.js'
import type { FromWorker, WasmOrigin, WorkerPort } from './wasm_protocol.js'
import { type Helpers, start_helpers, with_helpers } from './wasm_threads.js'

interface Pending {
  resolve(value: { reply: never; tensors: WireTensor[] }): void
  reject(error: Error): void
}

/** The keys under which replies name handles. */
const HANDLES = ['checkpoint', 'load', 'model', 'past_key_values', 'plan', 'session'] as const

/** How long a worker that holds nothing is kept for the next call. Starting another takes about as long. */
const IDLE_MS = 200

/**
 * Runs the module in a worker. WASM memory never shrinks, so the worker is ended when nothing lives in it any more, and
 * started again by the next call: that is how `dispose` gives memory back.
 */
export class WasmBackend implements Backend {
  readonly name = 'wasm'
  failure: Error | null = null
  readonly #start_worker: () => WorkerPort
  readonly #origin: WasmOrigin
  readonly #threads: number
  readonly #pending = new Map<number, Pending>()
  readonly #handles = new Set<number>()
  #worker: Promise<WorkerPort> | null = null
  #calls = 0
  #next = 1
  #idle: ReturnType<typeof setTimeout> | undefined

  private constructor(start_worker: () => WorkerPort, origin: WasmOrigin, threads: number) {
    this.#start_worker = start_worker
    this.#origin = origin
    this.#threads = threads
  }

  /**
   * Starts a worker and its module, and helpers up to `threads` in all where its memory is shared. Rejects when it cannot
   * be started, and leaves nothing behind then.
   */
  static async start(start_worker: () => WorkerPort, origin: WasmOrigin, threads = 1): Promise<WasmBackend> {
    const backend = new WasmBackend(start_worker, origin, threads)
    await backend.#wake()
    backend.#rest()
    return backend
  }

  async call<N extends OperationName>(
    name: N,
    request: Operations[N]['request'],
    tensors: WireTensor[] = [],
    sources: Source[] = [],
  ): Promise<{ reply: Operations[N]['reply']; tensors: WireTensor[] }> {
    this.#calls++
    try {
      const port = await this.#wake()
      const id = this.#next++
      const message = { type: 'call' as const, id, name, request: JSON.stringify(request), tensors }
      const answer = await new Promise<{ reply: Operations[N]['reply']; tensors: WireTensor[] }>((resolve, reject) => {
        this.#pending.set(id, { resolve: resolve as Pending['resolve'], reject })
        port.ref?.()
        try {
          port.post({ ...message, sources: sources.map(plain) })
        } catch (cause) {
          this.#pending.delete(id)
          reject(new InternalError(`A call could not be sent to the WASM worker: ${String(cause)}`, { cause }))
        }
      })
      this.#track(name, request, answer.reply)
      return answer
    } finally {
      this.#calls--
      // Whether a handle was known or not, it is not there after its release.
      if (name === 'release') this.#handles.delete((request as { handle: number }).handle)
      this.#rest()
    }
  }

  async terminate(): Promise<void> {
    const worker = this.#worker
    this.#die(new DisposedError('The WASM backend has been terminated.'))
    await (await worker?.catch(() => undefined))?.terminate()
  }

  /** The worker, started if there is none. */
  #wake(): Promise<WorkerPort> {
    if (this.failure !== null) return Promise.reject(dead(this.failure))
    clearTimeout(this.#idle)
    if (this.#worker !== null) return this.#worker
    const worker = this.#open((error) => {
      // A worker that was put to sleep may say what it likes.
      if (this.#worker === worker) this.#die(error)
    })
    this.#worker = worker
    worker.catch(() => {
      if (this.#worker === worker) this.#worker = null
    })
    return worker
  }

  /** Starts a worker; `on_end` is told when it ends after having worked. */
  #open(on_end: (error: Error) => void): Promise<WorkerPort> {
    return new Promise((resolve, reject) => {
      const port = this.#start_worker()
      const helpers = start_helpers(this.#start_worker, this.#threads - 1, on_end)
      let ready = false
      const ended = (error: Error) => {
        if (ready) on_end(error)
        else reject(error)
        helpers.terminate()
        void port.terminate().catch(() => {})
      }
      port.listen(
        (message) => {
          if (message.type === 'ready') {
            ready = true
            if (!message.has_threads) helpers.terminate()
            resolve(message.has_threads && this.#threads > 1 ? this.#join(port, helpers) : port)
          } else if (message.type === 'failed') {
            ended(from_wire(message.message))
          } else if (message.type !== 'helping') {
            this.#receive(message)
          }
        },
        (error) => ended(new InternalError(`The WASM worker ended: ${error.message}`, { cause: error })),
      )
      port.ref?.()
      port.post({ type: 'init', origin: this.#origin, helpers: helpers.ports }, helpers.ports)
    })
  }

  /** Waits for a module's helpers and tells it how many there are. */
  async #join(port: WorkerPort, helpers: Helpers): Promise<WorkerPort> {
    const started = await helpers.started()
    const request = JSON.stringify({ threads: 1 + started.length } satisfies Operations['set_threads']['request'])
    // Nobody waits for the answer: calls are served in order.
    port.post({ type: 'call', id: 0, name: 'set_threads', request, tensors: [], sources: [] })
    return with_helpers(port, started)
  }

  #receive(message: Exclude<FromWorker, { type: 'ready' | 'failed' | 'helping' }>): void {
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
  }

  /** Lets the process end when nothing is under way, and the worker when nothing lives in it. */
  #rest(): void {
    if (this.#calls > 0 || this.#worker === null) return
    const worker = this.#worker
    void worker.then((port) => {
      if (this.#calls === 0) port.unref?.()
    })
    if (this.#handles.size > 0) return
    clearTimeout(this.#idle)
    this.#idle = setTimeout(() => {
      if (this.#calls > 0 || this.#handles.size > 0 || this.#worker !== worker) return
      this.#worker = null
      void worker.then((port) => port.terminate()).catch(() => {})
    }, IDLE_MS)
    ;(this.#idle as { unref?: () => void }).unref?.()
  }

  #die(reason: Error): void {
    if (this.failure !== null) return
    this.failure = reason
    clearTimeout(this.#idle)
    for (const { reject } of this.#pending.values()) reject(dead(reason))
    this.#pending.clear()
    this.#handles.clear()
    void this.#worker
      ?.then((port) => {
        port.unref?.()
        return port.terminate()
      })
      .catch(() => {})
  }

  #track(name: OperationName, request: object, reply: object): void {
    if (name === 'generation_finish') this.#handles.delete((request as { session: number }).session)
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
function plain({ read, ...source }: Source): Source {
  return source
}

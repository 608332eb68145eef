/** The workers that lend themselves to a module's kernels, and what they and the module's own worker are together. */

import { from_wire } from '../errors.js'
import type { WorkerPort } from './wasm_protocol.js'

export interface Helpers {
  /** Where each of them waits for the module; to be given to the module's worker. */
  ports: MessagePort[]
  /** Those that help, once each helps or has failed to start: there is one thread fewer for one that did. */
  started(): Promise<WorkerPort[]>
  terminate(): void
}

/** Starts `count` helpers. `on_failure` is told when one fails later, in the middle of a kernel, say. */
export function start_helpers(
  start_worker: () => WorkerPort,
  count: number,
  on_failure: (error: Error) => void,
): Helpers {
  const helpers = Array.from({ length: count }, () => {
    const { port1, port2 } = new MessageChannel()
    const worker = start_worker()
    return { port: port1, worker, helping: helping(worker, port2, on_failure) }
  })
  const all = Promise.allSettled(helpers.map((each) => each.helping))
  return {
    ports: helpers.map(({ port }) => port),
    async started() {
      const outcomes = await all
      return helpers.flatMap(({ worker }, index) => {
        const outcome = outcomes[index]
        if (outcome?.status === 'fulfilled') return [worker]
        console.warn(`A thread of the WASM module could not be started: ${outcome?.reason}`)
        return []
      })
    },
    terminate() {
      for (const { worker } of helpers) void worker.terminate().catch(() => {})
    },
  }
}

function helping(worker: WorkerPort, port: MessagePort, on_failure: (error: Error) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    let helps = false
    const failed = (error: Error) => {
      if (helps) return on_failure(error)
      void worker.terminate().catch(() => {})
      reject(error)
    }
    worker.listen((message) => {
      if (message.type === 'failed') failed(from_wire(message.message))
      if (message.type !== 'helping') return
      helps = true
      worker.unref?.()
      resolve()
    }, failed)
    worker.post({ type: 'help', port }, [port])
  })
}

/** A worker with its helpers, as one. */
export function with_helpers(port: WorkerPort, helpers: readonly WorkerPort[]): WorkerPort {
  return {
    post: (message, transfer) => port.post(message, transfer),
    listen: (on_message, on_failure) => port.listen(on_message, on_failure),
    async terminate() {
      await Promise.all([port, ...helpers].map((each) => each.terminate()))
    },
    ref: () => port.ref?.(),
    unref: () => port.unref?.(),
  }
}

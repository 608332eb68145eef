/** The workers that lend themselves to a module's kernels, and what they and the module's own worker are together. */

import { from_wire } from '../errors.js'
import type { SharedModule, WorkerPort } from './wasm_protocol.js'

/**
 * Starts `count` helpers. One that cannot be started is left out: there is one thread fewer then. `on_failure` is told
 * when one fails later, in the middle of a kernel, say.
 */
export async function start_helpers(
  start_worker: () => WorkerPort,
  count: number,
  shared: SharedModule,
  on_failure: (error: Error) => void,
): Promise<WorkerPort[]> {
  const started = await Promise.allSettled(
    Array.from({ length: count }, () => start_helper(start_worker, shared, on_failure)),
  )
  return started.flatMap((each) => {
    if (each.status === 'fulfilled') return [each.value]
    console.warn(`A thread of the WASM module could not be started: ${each.reason}`)
    return []
  })
}

function start_helper(
  start_worker: () => WorkerPort,
  shared: SharedModule,
  on_failure: (error: Error) => void,
): Promise<WorkerPort> {
  return new Promise((resolve, reject) => {
    const port = start_worker()
    let helps = false
    const failed = (error: Error) => {
      if (helps) return on_failure(error)
      void port.terminate().catch(() => {})
      reject(error)
    }
    port.listen((message) => {
      if (message.type === 'failed') failed(from_wire(message.message))
      if (message.type !== 'helping') return
      helps = true
      port.unref?.()
      resolve(port)
    }, failed)
    port.post({ type: 'help', ...shared })
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

/** Long work in short turns, so that timers, input and frames get theirs between them. */

/** Ends the turn once it has lasted this long. */
const TURN_MS = 8

/** Resolves in a later task: a microtask would not let anything else run. */
export function next_turn(): Promise<void> {
  return new Promise((resolve) => {
    // setImmediate where there is one; a message is not held back in the background as a timer is.
    if (typeof setImmediate === 'function') {
      setImmediate(resolve)
      return
    }
    const { port1, port2 } = new MessageChannel()
    port1.onmessage = () => {
      port1.close()
      resolve()
    }
    port2.postMessage(null)
  })
}

/** Call it between pieces of work: it waits for the next turn when this one has lasted long enough. */
export function turns(): () => Promise<void> | undefined {
  let began = performance.now()
  return () => {
    if (performance.now() - began < TURN_MS) return undefined
    return next_turn().then(() => {
      began = performance.now()
    })
  }
}

/** The iterable's values, of which `depth` are made before they are asked for. */
export async function* prefetch<T>(values: AsyncIterator<T>, depth: number): AsyncGenerator<T, void, undefined> {
  const pending: Promise<IteratorResult<T>>[] = []
  const ask = () => {
    const next = values.next()
    // Its failure is reported when it is its turn.
    next.catch(() => {})
    pending.push(next)
  }
  try {
    for (;;) {
      while (pending.length <= depth) ask()
      const { done, value } = await (pending.shift() as Promise<IteratorResult<T>>)
      if (done) return
      yield value
    }
  } finally {
    await values.return?.()
  }
}

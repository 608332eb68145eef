/** What a command may touch of the process it runs in, so that tests can give it something else. */

import { SingleBar } from 'cli-progress'

export interface Terminal {
  /** Results. */
  print(text: string): void
  /** Notes for people, which are no part of the result. */
  note(text: string): void
  /** The lines of standard input; null where it is a terminal. */
  read_lines(): AsyncIterable<string> | null
  /** Fires when the command is interrupted. */
  readonly signal: AbortSignal
  /** Called, synchronously, when the command is interrupted. */
  on_interrupt(cleanup: () => void): void
  /** Gives an interrupted command this long to stop at its own place, instead of the usual short time. */
  be_patient(milliseconds: number): void
  progress(label: string): Progress
}

export interface Progress {
  /** `done` and `total` in any unit; `text` says what they mean. */
  update(done: number, total: number, text: string): void
  /** Takes the bar away. May be called again. */
  stop(): void
}

/** A bar on stderr, or nothing where that is no terminal. It appears with the first update. */
export function progress_bar(stream: NodeJS.WriteStream, label: string): Progress {
  if (!stream.isTTY) return { update() {}, stop() {} }
  const bar = new SingleBar({
    stream,
    format: `${label} {bar} {percentage}% {text}`,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 24,
    clearOnComplete: true,
    hideCursor: true,
    fps: 10,
    // The terminal's own SIGINT handling restores the cursor through stop().
    gracefulExit: false,
  })
  let running = false
  return {
    update(done, total, text) {
      if (!running) bar.start(total, done, { text })
      running = true
      bar.setTotal(total)
      bar.update(done, { text })
    },
    stop() {
      if (running) bar.stop()
      running = false
    },
  }
}

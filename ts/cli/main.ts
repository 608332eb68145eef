#!/usr/bin/env node
/** The program `switch-transformers`: connects a command to the process. */

import { addAbortSignal } from 'node:stream'
import { use_node_platform } from '../entry/node_platform.js'
import { EXIT } from './exit.js'
import { lines_of } from './lines.js'
import { run } from './program.js'
import { type Progress, progress_bar, type Terminal } from './terminal.js'

/** How long an interrupted command may take to stop at its own place before it is ended. */
const GRACE_MS = 1500

/** Signals that end a command, with the exit codes that shells give them: 128 + their number. */
const SIGNALS = { SIGINT: EXIT.interrupted, SIGTERM: 143 } as const

const controller = new AbortController()
const cleanups: (() => void)[] = []
const bars = new Set<Progress>()
let interrupted_code: number = EXIT.interrupted
let grace_ms = GRACE_MS

// Whoever reads the output may close it early (`| head`): that is no error, and nothing more is to be said.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    process.exit(EXIT.ok)
  })
}

for (const [signal, exit_code] of Object.entries(SIGNALS)) {
  process.on(signal, () => {
    interrupted_code = exit_code
    if (controller.signal.aborted) end_now()
    controller.abort()
    // What runs in the engine cannot always look up in time.
    setTimeout(end_now, grace_ms).unref()
  })
}

function end_now(): never {
  for (const bar of bars) bar.stop()
  clean_up()
  process.exit(interrupted_code)
}

function clean_up(): void {
  for (const cleanup of cleanups.splice(0)) {
    try {
      cleanup()
    } catch {
      // Another file may be open still; what could be removed is.
    }
  }
}

const terminal: Terminal = {
  print: (text) => void process.stdout.write(text),
  note: (text) => void process.stderr.write(text),
  read_lines: () => (process.stdin.isTTY ? null : lines_of(addAbortSignal(controller.signal, process.stdin))),
  signal: controller.signal,
  on_interrupt: (cleanup) => void cleanups.push(cleanup),
  be_patient(milliseconds) {
    grace_ms = milliseconds
  },
  progress(label) {
    const bar = progress_bar(process.stderr, label)
    bars.add(bar)
    return bar
  },
}

// A bundler may leave out what the library's entry does when it is imported.
use_node_platform()
const exit_code = await run(process.argv.slice(2), terminal, Boolean(process.env.SWITCH_DEBUG))
// A command that was finished when the signal came has nothing to clean up.
if (exit_code === EXIT.interrupted) clean_up()
// Output to a pipe is written asynchronously: wait for it.
for (const stream of [process.stdout, process.stderr]) {
  await new Promise<void>((resolve) => void stream.write('', () => resolve()))
}
// A backend's worker must not keep the process alive.
process.exit(exit_code === EXIT.interrupted ? interrupted_code : exit_code)

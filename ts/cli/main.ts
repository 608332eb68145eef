#!/usr/bin/env node
/** The program `switch-transformers`: connects a command to the process. */

import { createInterface } from 'node:readline'
import { EXIT } from './exit.js'
import { run } from './program.js'
import { type Progress, progress_bar, type Terminal } from './terminal.js'

/** How long an interrupted command may take to stop at its own place before it is ended. */
const GRACE_MS = 1500

const controller = new AbortController()
const cleanups: (() => void)[] = []
const bars = new Set<Progress>()

// Whoever reads the output may close it early (`| head`): that is no error, and nothing more is to be said.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    process.exit(process.exitCode ?? EXIT.ok)
  })
}

process.on('SIGINT', () => {
  if (controller.signal.aborted) interrupt()
  controller.abort()
  setTimeout(interrupt, GRACE_MS).unref()
})

function interrupt(): never {
  for (const bar of bars) bar.stop()
  clean_up()
  process.exit(EXIT.interrupted)
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
  columns: process.stdout.columns ?? 80,
  read_lines: () =>
    process.stdin.isTTY ? null : createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY }),
  signal: controller.signal,
  on_interrupt: (cleanup) => void cleanups.push(cleanup),
  progress(label) {
    const bar = progress_bar(process.stderr, label)
    bars.add(bar)
    return bar
  },
}

const exit_code = await run(process.argv.slice(2), terminal, Boolean(process.env.SWITCH_DEBUG))
// A command that was finished when the signal came has nothing to clean up.
if (exit_code === EXIT.interrupted) clean_up()
process.exitCode = exit_code
// Workers of backends would keep the process alive. Output to a pipe is written asynchronously: wait for it.
for (const stream of [process.stdout, process.stderr])
  await new Promise<void>((resolve) => void stream.write('', () => resolve()))
process.exit(exit_code)

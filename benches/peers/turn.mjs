/**
 * A turn on a machine that is shared: `--turn COMMAND` names a program that runs another one while the machine is quiet
 * (`flock FILE`, say). All that is timed happens while such a turn is held; loading, checking and compiling do not.
 */

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

/** Says when it has begun, and ends when its input does. */
const HOLD = `sh -c 'echo begun; cat > /dev/null'`

/** Another case begins in a turn that has lasted no longer. */
const REUSE_MS = 30_000

export class Turns {
  #command
  #turn = null

  constructor(command) {
    this.#command = command
  }

  /** Whether there are any: without a command everything runs as it comes. */
  get exist() {
    return this.#command !== undefined
  }

  /**
   * Runs `work(holds)` in a turn, where `holds()` throws once the turn has ended; then all of it again, up to `tries` times.
   * The turn is kept for the next call: `release` ends it.
   */
  async run(workers, work, tries = 2) {
    if (!this.exist) return work(() => {})
    if (this.#turn && (this.#turn.over || performance.now() - this.#turn.start > REUSE_MS)) await this.release()
    this.#turn ??= await this.#take()
    const turn = this.#turn
    // What makes the machine quiet may have stopped our own.
    for (const worker of workers) worker.resume()
    const holds = () => {
      if (turn.over) throw new Error('--turn: it ended before the work was done')
    }
    try {
      return await work(holds)
    } catch (error) {
      if (!turn.over || tries <= 1) throw error
    }
    console.error('The turn ended before the work was done: once more.')
    return this.run(workers, work, tries - 1)
  }

  async release() {
    const turn = this.#turn
    this.#turn = null
    turn?.process.stdin.end()
    await turn?.ended
  }

  async #take() {
    const process = spawn(`${this.#command} ${HOLD}`, { shell: true, stdio: ['pipe', 'pipe', 'inherit'] })
    const turn = { process, over: false, start: 0, ended: null }
    process.stdin.on('error', () => {})
    turn.ended = new Promise((resolve) => {
      process.on('exit', () => {
        turn.over = true
        resolve()
      })
    })
    const begun = new Promise((resolve) => createInterface({ input: process.stdout }).once('line', resolve))
    await Promise.race([begun, turn.ended])
    if (turn.over) throw new Error(`--turn: '${this.#command}' ended before anything was timed`)
    turn.start = performance.now()
    return turn
  }
}

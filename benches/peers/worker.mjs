/**
 * A process that answers one line of JSON with one line of JSON, in order. What is measured runs in such processes, ours
 * and the peer's alike, so that their turns can alternate while each keeps its model and its threads to itself.
 */

import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

/** Linux counts processor time for programs in hundredths of a second. */
const TICK_MS = 10

export class Worker {
  #process
  #waiting = []
  #ended = null

  constructor(name, command, args, { env = {} } = {}) {
    this.name = name
    this.#process = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, ...env } })
    createInterface({ input: this.#process.stdout }).on('line', (line) => this.#answer(line))
    this.#process.stdin.on('error', () => {})
    this.#process.on('error', (error) => this.#end(error))
    this.#process.on('exit', (code, signal) => this.#end(new Error(`${name} ended with ${signal ?? `code ${code}`}`)))
  }

  #answer(line) {
    if (!line.startsWith('{')) return console.error(`${this.name}: ${line}`)
    const { error, ...reply } = JSON.parse(line)
    const waiting = this.#waiting.shift()
    if (error === undefined) waiting?.resolve(reply)
    else waiting?.reject(new Error(`${this.name}: ${error}`))
  }

  #end(error) {
    this.#ended = error
    for (const { reject } of this.#waiting.splice(0)) reject(error)
  }

  /** Sends `request` and waits for its reply. One that takes longer than `limit_s` ends the process. */
  ask(request, { limit_s = 600 } = {}) {
    if (this.#ended) return Promise.reject(this.#ended)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#end(new Error(`${this.name}: ${request.op} took longer than ${limit_s} s`))
        this.#process.kill('SIGKILL')
      }, limit_s * 1000)
      const settle = (then) => (value) => {
        clearTimeout(timer)
        then(value)
      }
      this.#waiting.push({ resolve: settle(resolve), reject: settle(reject) })
      this.#process.stdin.write(`${JSON.stringify(request)}\n`)
    })
  }

  /** Goes on, were the process stopped. */
  resume() {
    if (!this.#ended) this.#process.kill('SIGCONT')
  }

  /** Processor time of the process so far, where the system tells (Linux); else NaN. */
  processor_ms() {
    try {
      const fields = readFileSync(`/proc/${this.#process.pid}/stat`, 'utf8').split(') ')[1].split(' ')
      return (Number(fields[11]) + Number(fields[12])) * TICK_MS
    } catch {
      return Number.NaN
    }
  }

  close() {
    if (this.#ended) return Promise.resolve()
    return new Promise((resolve) => {
      this.#process.on('exit', () => resolve())
      this.#process.stdin.end()
      setTimeout(() => this.#process.kill('SIGKILL'), 5000).unref()
    })
  }
}

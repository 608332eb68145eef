/** Runs the built command line as users do. */

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'

const CLI = path.join(import.meta.dirname, '../../dist/cli.js')
export const FIXTURES = path.join(import.meta.dirname, '../fixtures')

export interface Finished {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface RunOptions {
  /** What standard input holds. Nothing by default. */
  input?: string | Uint8Array
  /** Leaves standard input open after `input`, as a terminal or a slow writer would. */
  keep_open?: boolean
  env?: Record<string, string>
  /** Gets the process as soon as it runs. */
  on_start?: (child: ChildProcess) => void
}

/** Runs `switch-transformers ARGS` to its end. */
export function run_cli(args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  if (!existsSync(CLI)) throw new Error('dist/cli.js is missing: run npm run setup first.')
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [CLI, ...args], { env: { ...process.env, ...options.env } })
    const read = (stream: NodeJS.ReadableStream) => {
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      return () => Buffer.concat(chunks).toString('utf8')
    }
    const [stdout, stderr] = [read(child.stdout), read(child.stderr)]
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, stdout: stdout(), stderr: stderr() }))
    // A command that ends without reading closes its end first.
    child.stdin.on('error', () => {})
    child.stdin.write(options.input ?? '')
    if (options.keep_open !== true) child.stdin.end()
    options.on_start?.(child)
  })
}

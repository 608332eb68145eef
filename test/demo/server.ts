/** The demo's server as its command starts it. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const script = fileURLToPath(new URL('../../examples/demo/serve.mjs', import.meta.url))

export interface DemoServer {
  url: string
  stop(): Promise<void>
}

/** Starts it and waits for the address that it prints; an error with what it said where it ends instead. */
export async function serve(...args: string[]): Promise<DemoServer> {
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = once(child, 'exit')
  let said = ''
  const url = await new Promise<string>((resolve, reject) => {
    const listen = (chunk: Buffer) => {
      said += chunk
      const address = /http:\/\/127\.0\.0\.1:\d+\//.exec(said)
      if (address) resolve(address[0])
    }
    child.stdout.on('data', listen)
    child.stderr.on('data', listen)
    child.on('close', (code) => reject(new Error(`exit code ${code}: ${said.trim()}`)))
  })
  const stop = async () => {
    child.kill()
    await ended
  }
  return { url, stop }
}

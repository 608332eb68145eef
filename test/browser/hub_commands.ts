/** The loopback hub and downloads, seen to by Node on behalf of tests that run in a page. */

import { readFileSync } from 'node:fs'
import type { BrowserCommand } from 'vitest/node'
import { type Fault, type HubRepository, HubServer } from '../node/hub_server.js'

/** A file of a repository as a page can name it: so many bytes, each `index % 251`. */
export interface PlainFile {
  bytes?: number
  text?: string
  lfs?: boolean
}

/** A fault whose pattern is text, since messages to Node are JSON. */
export type PlainFault = Omit<Fault, 'path' | 'json'> & { path: string }

let server: HubServer | undefined

function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let i = 0; i < length; i++) bytes[i] = i % 251
  return bytes
}

/** Starts the hub, if it does not run yet, with this one repository and nothing else. Returns its address. */
const hub_start: BrowserCommand<[name: string, commit: string, files: Record<string, PlainFile>]> = async (
  _,
  name,
  commit,
  files,
) => {
  server ??= await HubServer.start()
  server.unref()
  server.reset()
  for (const known of Object.keys(server.repositories)) delete server.repositories[known]
  const content = ({ bytes = 0, text }: PlainFile) => (text === undefined ? pattern(bytes) : Buffer.from(text))
  const made = Object.entries(files).map(([path, file]) => [path, { content: content(file), lfs: file.lfs ?? false }])
  server.repositories[name] = {
    refs: { main: commit },
    commits: { [commit]: Object.fromEntries(made) },
  } as HubRepository
  return server.url
}

const hub_faults: BrowserCommand<[faults: PlainFault[]]> = async (_, faults) => {
  if (server) server.faults = faults.map((fault) => ({ ...fault, path: new RegExp(fault.path) }))
}

/** The paths asked for since the start, with the range where there was one. */
const hub_requests: BrowserCommand<[]> = async () =>
  (server?.requests ?? [])
    .filter(({ method }) => method !== 'OPTIONS')
    .map(({ path, headers }) => ({ path, range: headers.range ?? null }))

/** Name and first bytes of the file that the page downloads next, and how many there are. */
const next_download: BrowserCommand<[]> = async ({ page }) => {
  const download = await page.waitForEvent('download', { timeout: 30_000 })
  const bytes = readFileSync(await download.path())
  return { name: download.suggestedFilename(), size: bytes.length, start: bytes.subarray(0, 64).toString('latin1') }
}

export const hub_commands = { hub_start, hub_faults, hub_requests, next_download }

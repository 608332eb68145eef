/** The packed package in a Next app: a page that generates in the browser, and a route that generates on the server. */

import { spawn } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { copy_model, expect_no_native_code, HELLO, SAY } from './hello.js'
import { result_of, start_browser } from './pages.js'
import { create_project, type Packed, pack, succeed } from './project.js'

const FILES = {
  'app/layout.js': `
export default function Layout({ children }) {
  return <html lang="en"><body>{children}</body></html>
}
`,
  'app/page.js': `'use client'
import { useEffect, useState } from 'react'
${SAY}
export default function Page() {
  const [text, set_text] = useState('')
  useEffect(() => {
    say().then(set_text, (error) => set_text(String(error.stack ?? error)))
  }, [])
  return <p id="result">{text}</p>
}
`,
  'app/say/route.js': `${SAY.replaceAll("'/model'", "'./public/model'")}
export const dynamic = 'force-dynamic'
export const GET = async () => new Response(await say())
`,
}

let packed: Packed
let browser: Browser

beforeAll(async () => {
  packed = pack()
  browser = await start_browser()
})

afterAll(async () => {
  await browser?.close()
  if (packed) rmSync(packed.folder, { recursive: true, force: true })
})

/** Starts the built app and waits until it says where it listens. */
async function start(folder: string) {
  const server = spawn(process.execPath, ['node_modules/next/dist/bin/next', 'start', '-p', '0'], {
    cwd: folder,
    env: { ...process.env, NEXT_TELEMETRY_DISABLED: '1' },
  })
  const url = await new Promise<string>((resolve, reject) => {
    let said = ''
    const listen = (data: Buffer) => {
      said += data
      const port = /http:\/\/localhost:(\d+)/.exec(said)?.[1]
      if (port) resolve(`http://localhost:${port}/`)
    }
    server.stdout.on('data', listen)
    server.stderr.on('data', listen)
    server.on('exit', () => reject(new Error(`the server ended: ${said}`)))
  })
  return { url, stop: () => server.kill() }
}

it('builds without settings, runs in the browser by WASM and on the server by native code', async () => {
  const folder = join(packed.folder, 'next')
  create_project(folder, [packed.main, packed.platform, 'next@16', 'react@19', 'react-dom@19'], {})
  for (const [file, text] of Object.entries(FILES)) {
    mkdirSync(join(folder, dirname(file)), { recursive: true })
    writeFileSync(join(folder, file), text)
  }
  copy_model(folder, join(folder, 'public/model'))
  succeed(folder, 'env', ['NEXT_TELEMETRY_DISABLED=1', process.execPath, 'node_modules/next/dist/bin/next', 'build'])
  expect_no_native_code(join(folder, '.next/static'))
  const server = await start(folder)
  try {
    expect(await result_of(browser, server.url)).toBe(HELLO)
    expect(await (await fetch(`${server.url}say`)).text()).toBe(HELLO.replace('wasm', 'native'))
  } finally {
    server.stop()
  }
})

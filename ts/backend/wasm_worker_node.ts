/** Node's worker thread: the WASM module, behind the protocol. */

import { closeSync, openSync, readFileSync, readSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parentPort } from 'node:worker_threads'

import type { Source } from './contract.js'
import type { ToWorker, WasmOrigin } from './wasm_protocol.js'
import { type OpenSource, serve } from './wasm_serve.js'

const FILES = {
  simd: './switch_transformers.wasm',
  threads: './switch_transformers_threads.wasm',
  relaxed: './switch_transformers_relaxed.wasm',
}

async function compile({ artefact = 'simd', url, binary, module }: WasmOrigin): Promise<WebAssembly.Module> {
  if (module !== undefined) return module
  if (binary !== undefined) return WebAssembly.compile(binary as BufferSource)
  const from = url === undefined ? new URL(FILES[artefact], import.meta.url) : to_url(url)
  if (from.protocol === 'file:') return WebAssembly.compile(readFileSync(fileURLToPath(from)))
  const response = await fetch(from)
  if (!response.ok) throw new Error(`${from.href} answered ${response.status}`)
  return WebAssembly.compile(await response.arrayBuffer())
}

function to_url(url: string): URL {
  return URL.canParse(url) ? new URL(url) : new URL(url, 'file:///')
}

function open({ name, path, size }: Source): OpenSource {
  if (path === undefined) throw new Error(`${name} has no path to read from`)
  const file = openSync(path, 'r')
  return {
    read(offset, into) {
      for (let done = 0; done < into.length; ) {
        const count = readSync(file, into, done, into.length - done, offset + done)
        if (count === 0) throw new Error(`${name} ended at byte ${offset + done} of ${size}`)
        done += count
      }
    },
    close: () => closeSync(file),
  }
}

if (parentPort === null) throw new Error('This file runs in a worker thread.')
const port = parentPort

const handle = serve({
  post: (message, transfer) => port.postMessage(message, transfer),
  compile,
  open,
})

port.on('message', (message: ToWorker) => handle(message))

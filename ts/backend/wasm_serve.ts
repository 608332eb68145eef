/** The worker's side of the protocol: opens sources, calls the module, and tells a failure from a trap. */

import type { Reply, Source, WasmBinding } from './contract.js'
import { help_wasm_instance, start_wasm_instance, type WasmInstance } from './wasm_instance.js'
import type { FromWorker, SharedModule, ToWorker, WasmOrigin } from './wasm_protocol.js'

/** A source that can be read here and now. */
export interface OpenSource {
  read(offset: number, into: Uint8Array): void
  close(): void
}

/** What a runtime gives its worker. */
export interface ServeHost {
  post(message: FromWorker, transfer: ArrayBuffer[]): void
  /** Compiles the module. */
  compile(origin: WasmOrigin): Promise<WebAssembly.Module>
  /** Opens a `path` or a `blob`. `bytes` are served here. */
  open(source: Source): OpenSource
}

/** Makes the handler for the facade's messages. */
export function serve(host: ServeHost): (message: ToWorker) => void {
  let instance: Promise<WasmInstance> | undefined
  // Files stay open as long as the checkpoint that reads from them.
  const open_files = new Map<number, OpenSource[]>()
  // Calls wait for the module and for each other.
  let turn: Promise<void> = Promise.resolve()

  const open = (source: Source): OpenSource => {
    try {
      return host.open(source)
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      const code = (error as { code?: unknown }).code === 'ENOENT' ? 'FILE_NOT_FOUND' : 'FILE_READ'
      // As an operation fails, not as an instance traps.
      throw new Error(JSON.stringify({ code, message: `${source.name} cannot be opened: ${reason}.` }))
    }
  }

  const run = (wasm: WasmBinding, message: Extract<ToWorker, { type: 'call' }>): Reply => {
    const opened: OpenSource[] = []
    try {
      const sources = message.sources.map((source) => {
        const file = source.bytes === undefined ? open(source) : over_bytes(source.bytes)
        opened.push(file)
        return { name: source.name, size: source.size, read: file.read.bind(file) }
      })
      const reply = wasm[message.name](message.request, message.tensors, sources)
      if (message.name === 'checkpoint_open') {
        const { checkpoint } = JSON.parse(reply.json) as { checkpoint: number }
        open_files.set(checkpoint, opened.splice(0))
      } else if (message.name === 'release') {
        const { handle } = JSON.parse(message.request) as { handle: number }
        for (const file of open_files.get(handle) ?? []) file.close()
        open_files.delete(handle)
      }
      return reply
    } finally {
      for (const file of opened) file.close()
    }
  }

  const answer = async (message: ToWorker) => {
    if (message.type === 'init') {
      instance = host.compile(message.origin).then((module) => start_wasm_instance(module))
      try {
        const { module, shared_memory: memory } = await instance
        if (memory) for (const port of message.helpers) port.postMessage({ module, memory } satisfies SharedModule)
        host.post({ type: 'ready', has_threads: memory !== undefined }, [])
      } catch (error) {
        host.post({ type: 'failed', message: wire_message(error) ?? unavailable(error) }, [])
      }
      return
    }
    if (message.type === 'help') {
      try {
        await help_wasm_instance(await first_message(message.port), () => host.post({ type: 'helping' }, []))
      } catch (error) {
        const text = `a thread failed (${error instanceof Error ? error.message : String(error)})`
        host.post({ type: 'failed', message: JSON.stringify({ code: 'INTERNAL', message: text }) }, [])
      }
      return
    }
    try {
      if (instance === undefined) throw new Error('the worker has not been initialised')
      const reply = run((await instance).binding, message)
      const tensors = reply.tensors.map((tensor) => ({ ...tensor, data: own_buffer(tensor.data) }))
      const transfer = tensors.map((tensor) => tensor.data.buffer as ArrayBuffer)
      host.post({ type: 'reply', id: message.id, json: reply.json, tensors }, transfer)
    } catch (error) {
      const text = wire_message(error)
      host.post(
        text === undefined
          ? { type: 'trapped', id: message.id, message: String(error), failed_allocation: await failed_bytes() }
          : { type: 'error', id: message.id, message: text },
        [],
      )
    }
  }

  /** Whether a trap was a full memory: how many bytes were asked for in vain, else 0. */
  const failed_bytes = async (): Promise<number> => {
    try {
      return (await instance)?.failed_allocation() ?? 0
    } catch {
      return 0
    }
  }

  return (message) => {
    turn = turn.then(() => answer(message))
  }
}

function first_message(port: MessagePort): Promise<SharedModule> {
  return new Promise((resolve) => {
    port.onmessage = ({ data }) => {
      port.close()
      resolve(data)
    }
  })
}

function over_bytes(bytes: Uint8Array): OpenSource {
  return {
    read: (offset, into) => {
      if (offset + into.length > bytes.length) throw new Error(`read past the end at ${offset}`)
      into.set(bytes.subarray(offset, offset + into.length))
    },
    close: () => {},
  }
}

/** The error's message if it is that of an operation that failed in order; anything else is a trap. */
function wire_message(error: unknown): string | undefined {
  const message = error instanceof Error ? error.message : undefined
  if (!message?.startsWith('{')) return undefined
  try {
    return typeof (JSON.parse(message) as { code?: unknown }).code === 'string' ? message : undefined
  } catch {
    return undefined
  }
}

function unavailable(error: unknown): string {
  const reason = error instanceof Error ? error.message : String(error)
  return JSON.stringify({ code: 'BACKEND_UNAVAILABLE', message: `The WASM module could not be started: ${reason}` })
}

/** Bytes in a buffer of their own, so that transferring them takes nothing else along. */
function own_buffer(data: Uint8Array): Uint8Array {
  return data.byteLength === data.buffer.byteLength && data.buffer instanceof ArrayBuffer ? data : new Uint8Array(data)
}

/** Files read in parts from a server, with a request in the place of a worker's. Chromium's own: `browser_memory.test.ts`. */

import { afterEach, expect, test, vi } from 'vitest'
import { open_ranges } from '../../ts/backend/wasm_ranges.js'

const SIZE = 5 * 2 ** 22 + 1000
const ADDRESS = { url: 'http://localhost/w', timeout_ms: 1000, max_retries: 2, retry_delay_ms: 1 }
const byte = (at: number) => at % 251

type Answer = { status?: number; bytes?: number; etag?: string; fails?: boolean }

/** Answers each request by what `answers` has next, and as asked for once it is empty. Gives the ranges asked for. */
function serve(answers: Answer[] = []): string[] {
  const ranges: string[] = []
  class Request {
    status = 0
    response: ArrayBuffer | null = null
    #range = ''
    #answer: Answer = {}
    open(): void {}
    setRequestHeader(_: string, value: string): void {
      this.#range = value
    }
    send(): void {
      ranges.push(this.#range)
      this.#answer = answers.shift() ?? {}
      if (this.#answer.fails) throw new DOMException('', 'NetworkError')
      const [start, end] = (/(\d+)-(\d+)/.exec(this.#range) as RegExpExecArray).slice(1).map(Number) as [number, number]
      this.status = this.#answer.status ?? 206
      this.response = Uint8Array.from({ length: this.#answer.bytes ?? end - start + 1 }, (_, i) =>
        byte(start + i),
      ).buffer
    }
    getResponseHeader(name: string): string | null {
      return name === 'etag' ? (this.#answer.etag ?? '"1"') : null
    }
  }
  vi.stubGlobal('XMLHttpRequest', Request)
  return ranges
}

afterEach(() => vi.unstubAllGlobals())

function read(from: number, length: number, file = open_ranges('w', SIZE, ADDRESS)): void {
  const into = new Uint8Array(length)
  file.read(from, into)
  expect([into[0], into[length - 1]]).toEqual([byte(from), byte(from + length - 1)])
}

test('reads across parts, keeps some, and ends with the file', () => {
  const ranges = serve()
  const file = open_ranges('w', SIZE, ADDRESS)
  read(2 ** 22 - 10, 20, file)
  read(5, 2 ** 22, file)
  expect(ranges).toEqual(['bytes=0-4194303', 'bytes=4194304-8388607'])
  read(SIZE - 1010, 1010, file)
  expect(ranges.slice(2)).toEqual(['bytes=16777216-20971519', 'bytes=20971520-20972519'])
})

test('asks again while what went wrong may pass', () => {
  const ranges = serve([{ status: 503 }, { bytes: 3 }])
  read(0, 100)
  expect(ranges).toHaveLength(3)
  serve([{ fails: true }, { fails: true }, { fails: true }])
  expect(() => read(0, 100)).toThrow('the connection failed while bytes 0 to 4194303 of w were read, 3 times in a row')
})

test('says what cannot pass', () => {
  serve([{ status: 404 }])
  expect(() => read(0, 100)).toThrow('HTTP 404 for bytes 0 to 4194303 of w, not 206')
  serve([{}, { etag: '"2"' }])
  expect(() => read(0, 2 ** 22 + 1)).toThrow('w has changed on the server')
})

/** Progress events, with the names and fields of transformers.js 4. */

export interface FileProgress {
  loaded: number
  total: number
}

export type ProgressEvent =
  /** A file is about to be loaded, from the cache or from the hub. */
  | { status: 'initiate'; name: string; file: string }
  /** Its download begins. Not sent for files that the cache holds. */
  | { status: 'download'; name: string; file: string }
  /** `progress` in per cent, `loaded` and `total` in bytes. */
  | { status: 'progress'; name: string; file: string; progress: number; loaded: number; total: number }
  /** The same over all files of this repository that were asked for so far. */
  | {
      status: 'progress_total'
      name: string
      progress: number
      loaded: number
      total: number
      files: Record<string, FileProgress>
    }
  | { status: 'done'; name: string; file: string }
  /** A browser did not keep the file, which is used all the same: why, and the bytes that the site uses and may use. */
  | { status: 'not_kept'; name: string; file: string; reason: 'quota' | 'no_cache'; usage?: number; quota?: number }
  /** Everything is loaded. Sent by whoever loads a model, not by the hub. */
  | { status: 'ready'; task: string; model: string }

export type ProgressCallback = (event: ProgressEvent) => void

/** A fast connection delivers thousands of chunks a second; nobody looks that often. */
const MIN_INTERVAL_MS = 50

/** Counts the bytes of a repository's files and tells the callback. */
export class Progress {
  readonly #name: string
  readonly #callback: ProgressCallback | undefined
  readonly #files = new Map<string, FileProgress>()
  readonly #told = new Map<string, number>()

  constructor(name: string, callback: ProgressCallback | undefined) {
    this.#name = name
    this.#callback = callback
  }

  /** Makes a file's bytes part of the total before it is its turn. */
  expect(file: string, total: number): void {
    if (!this.#files.has(file)) this.#files.set(file, { loaded: 0, total })
  }

  initiate(file: string): void {
    this.#callback?.({ status: 'initiate', name: this.#name, file })
  }

  download(file: string): void {
    this.#callback?.({ status: 'download', name: this.#name, file })
  }

  advance(file: string, loaded: number, total: number): void {
    this.#files.set(file, { loaded, total })
    if (!this.#callback) return
    const now = Date.now()
    if (loaded < total && now - (this.#told.get(file) ?? 0) < MIN_INTERVAL_MS) return
    this.#told.set(file, now)
    const sum: FileProgress = { loaded: 0, total: 0 }
    for (const each of this.#files.values()) {
      sum.loaded += each.loaded
      sum.total += each.total
    }
    const files = Object.fromEntries([...this.#files].map(([name, each]) => [name, { ...each }]))
    this.#callback({ status: 'progress_total', name: this.#name, progress: percent(sum), ...sum, files })
    this.#callback({ status: 'progress', name: this.#name, file, progress: percent({ loaded, total }), loaded, total })
  }

  done(file: string): void {
    this.#callback?.({ status: 'done', name: this.#name, file })
  }

  not_kept(file: string, why: { reason: 'quota' | 'no_cache'; usage?: number; quota?: number }): void {
    this.#callback?.({ status: 'not_kept', name: this.#name, file, ...why })
  }
}

function percent({ loaded, total }: FileProgress): number {
  return total > 0 ? (loaded / total) * 100 : 100
}

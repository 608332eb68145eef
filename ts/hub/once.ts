/** Work that is done once per file, and again only where it failed. */
export class OncePerFile<T> {
  readonly #results = new Map<string, Promise<T>>()
  readonly #work: (file: string) => Promise<T>

  constructor(work: (file: string) => Promise<T>) {
    this.#work = work
  }

  get(file: string): Promise<T> {
    let result = this.#results.get(file)
    if (!result) {
      result = this.#work(file).catch((error) => {
        this.#results.delete(file)
        throw error
      })
      this.#results.set(file, result)
    }
    return result
  }

  clear(): void {
    this.#results.clear()
  }
}

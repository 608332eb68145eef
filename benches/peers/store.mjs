/** What has been measured, kept between runs, so that a table can be put together from several: see --merge. */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { work_folder } from './environment.mjs'

export class Store {
  #file
  #entries = {}

  constructor(name, keep) {
    this.#file = join(work_folder(), 'measured', `${name}.json`)
    if (keep && existsSync(this.#file)) this.#entries = JSON.parse(readFileSync(this.#file, 'utf8'))
  }

  put(key, entry) {
    this.#entries[key] = { ...entry, at: new Date().toISOString() }
    mkdirSync(dirname(this.#file), { recursive: true })
    writeFileSync(this.#file, JSON.stringify(this.#entries, null, 1))
  }

  /** In the order in which `keys` come. */
  get(keys) {
    return keys.filter((key) => key in this.#entries).map((key) => this.#entries[key])
  }
}

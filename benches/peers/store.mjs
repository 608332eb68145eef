/** What has been measured, kept between runs, so that a table can be put together from several: see --merge. */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { work_folder } from './environment.mjs'

const read = (file) => (existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {})

export class Store {
  #file

  /** What earlier runs of that name have measured is forgotten unless `keep`. */
  constructor(name, keep) {
    this.#file = join(work_folder(), 'measured', `${name}.json`)
    mkdirSync(dirname(this.#file), { recursive: true })
    if (!keep) writeFileSync(this.#file, '{}')
  }

  /** Read again each time: two runs may add to one table. */
  put(key, entry) {
    const entries = { ...read(this.#file), [key]: { ...entry, at: new Date().toISOString() } }
    writeFileSync(this.#file, JSON.stringify(entries, null, 1))
  }

  /** In the order in which `keys` come. */
  get(keys) {
    const entries = read(this.#file)
    return keys.filter((key) => key in entries).map((key) => entries[key])
  }
}

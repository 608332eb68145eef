/** What a browser keeps of repositories, in the Cache API: whole, checked files and what is known of a commit. */

import type { CachedRepository, RemoteFile } from '../types.js'

const CACHE_NAME = 'switch-transformers'
/** Keys must be addresses; this one is never asked for. */
const HOME = 'https://switch-transformers.invalid'

export class Store {
  readonly #endpoint: string

  constructor(endpoint: string) {
    this.#endpoint = encodeURIComponent(endpoint)
  }

  async file(name: string, file: RemoteFile): Promise<Blob | null> {
    const response = await match(this.#key('blob', name, file.etag))
    return response ? response.blob() : null
  }

  /** False where the browser has no room or no cache: the file is then used and not kept. */
  async keep_file(name: string, file: RemoteFile, blob: Blob): Promise<boolean> {
    return put(this.#key('blob', name, file.etag), blob)
  }

  async forget_file(name: string, file: RemoteFile): Promise<void> {
    await (await open())?.delete(this.#key('blob', name, file.etag))
  }

  async commit(name: string, revision: string): Promise<string | null> {
    const response = await match(this.#key('ref', name, revision))
    return response ? response.text() : null
  }

  async keep_commit(name: string, revision: string, commit: string): Promise<void> {
    await put(this.#key('ref', name, revision), new Blob([commit]))
  }

  async listing(name: string, commit: string): Promise<RemoteFile[] | null> {
    const response = await match(this.#key('list', name, commit))
    return response ? ((await response.json()) as RemoteFile[]) : null
  }

  async keep_listing(name: string, commit: string, files: RemoteFile[]): Promise<void> {
    await put(this.#key('list', name, commit), new Blob([JSON.stringify(files)]))
  }

  #key(kind: string, name: string, id: string): string {
    return `${HOME}/${this.#endpoint}/${encodeURIComponent(name)}/${kind}/${encodeURIComponent(id)}`
  }
}

export async function list_stored(): Promise<CachedRepository[]> {
  const cache = await open()
  const entries = (await parsed_keys()).filter(({ kind }) => kind === 'list')
  const found = new Map<string, CachedRepository>()
  for (const { name, id: commit, url, siblings } of entries) {
    const files = ((await (await cache?.match(url))?.json()) ?? []) as RemoteFile[]
    const kept = files.filter(({ etag }) => siblings.has(`blob/${etag}`))
    const refs: string[] = []
    for (const sibling of siblings) {
      if (!sibling.startsWith('ref/')) continue
      const at = await (await cache?.match(url.replace(/\/list\/[^/]+$/, `/${sibling}`)))?.text()
      if (at === commit) refs.push(decodeURIComponent(sibling.slice('ref/'.length)))
    }
    const repository = found.get(name) ?? { name, size: 0, revisions: [] }
    found.set(name, repository)
    repository.size += kept.reduce((sum, { size }) => sum + size, 0)
    repository.revisions.push({ commit, refs, files: kept.map(({ path, size }) => ({ name: path, size })) })
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** Removes a repository, of whatever hub, and returns the bytes freed. */
export async function clear_stored(name: string): Promise<number> {
  const size = (await list_stored()).find((each) => each.name === name)?.size ?? 0
  const cache = await open()
  for (const key of await parsed_keys()) if (key.name === name) await cache?.delete(key.url)
  return size
}

async function parsed_keys() {
  const keys = (await (await open())?.keys()) ?? []
  const siblings = new Map<string, Set<string>>()
  const parsed = keys.flatMap(({ url }) => {
    const [, hub, name, kind, id] = new URL(url).pathname.split('/')
    if (!hub || !name || !kind || !id) return []
    const group = `${hub}/${name}`
    const set = siblings.get(group) ?? new Set<string>()
    siblings.set(group, set.add(`${kind}/${id}`))
    return [{ url, kind, name: decodeURIComponent(name), id: decodeURIComponent(id), siblings: set }]
  })
  return parsed
}

/** Absent in pages that were not loaded over https, and refused in some private windows. */
async function open(): Promise<Cache | null> {
  if (typeof caches === 'undefined') return null
  return caches.open(CACHE_NAME).catch(() => null)
}

async function match(key: string): Promise<Response | undefined> {
  return (await open())?.match(key)
}

async function put(key: string, body: Blob): Promise<boolean> {
  const cache = await open()
  if (!cache) return false
  return cache.put(key, new Response(body, { headers: { 'content-length': String(body.size) } })).then(
    () => true,
    () => false,
  )
}

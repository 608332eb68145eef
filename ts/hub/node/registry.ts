/** What is in the cache, and how to be rid of it. */

import { lstat, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { COMMIT, check_repository_name, is_repository_name } from '../repository_names.js'
import type { CachedRepository, CachedRevision } from '../types.js'
import { lock_folder, REPOSITORY_PREFIX, RepositoryCache, repository_folder } from './cache.js'
import { file_error, file_size, is_missing } from './files.js'

export async function list_cached(cache_dir: string): Promise<CachedRepository[]> {
  const found: CachedRepository[] = []
  for (const folder of await entries(cache_dir)) {
    if (!folder.startsWith(REPOSITORY_PREFIX)) continue
    const name = folder.slice(REPOSITORY_PREFIX.length).replace('--', '/')
    if (!is_repository_name(name)) continue
    const path = join(cache_dir, folder)
    const revisions = await list_revisions(new RepositoryCache(cache_dir, name))
    found.push({ name, path, size: await disk_size(path), revisions })
  }
  return found.sort((a, b) => (a.name < b.name ? -1 : 1))
}

export async function clear_cached(cache_dir: string, name: string): Promise<number> {
  check_repository_name(name)
  const folder = repository_folder(cache_dir, name)
  const size = await disk_size(folder)
  try {
    await rm(folder, { recursive: true, force: true })
    await rm(lock_folder(cache_dir, name), { recursive: true, force: true })
  } catch (error) {
    throw file_error(error, folder, 'written')
  }
  return size
}

async function list_revisions(cache: RepositoryCache): Promise<CachedRevision[]> {
  const refs = new Map<string, string[]>()
  const visit = async (folder: string, prefix: string): Promise<void> => {
    for (const entry of await entries(folder)) {
      const path = join(folder, entry)
      const commit = await readFile(path, 'utf8').catch(() => null)
      if (commit === null) await visit(path, `${prefix}${entry}/`)
      else if (COMMIT.test(commit.trim())) refs.set(commit.trim(), [...(refs.get(commit.trim()) ?? []), prefix + entry])
    }
  }
  await visit(join(cache.folder, 'refs'), '')

  const revisions: CachedRevision[] = []
  for (const commit of await entries(join(cache.folder, 'snapshots'))) {
    if (!COMMIT.test(commit)) continue
    const files: CachedRevision['files'] = []
    for (const name of await cache.cached_files(commit)) {
      files.push({ name, size: (await file_size(cache.pointer(commit, name))) ?? 0 })
    }
    revisions.push({ commit, refs: (refs.get(commit) ?? []).sort(), files })
  }
  return revisions
}

async function entries(folder: string): Promise<string[]> {
  return readdir(folder).then(
    (names) => names.sort(),
    (error) => {
      if (is_missing(error)) return []
      throw file_error(error, folder, 'read')
    },
  )
}

/** Bytes of all files, links not followed, each file counted once however many names it has. */
async function disk_size(folder: string): Promise<number> {
  const counted = new Set<string>()
  let size = 0
  const visit = async (path: string): Promise<void> => {
    const found = await lstat(path).catch(() => null)
    if (found?.isDirectory()) for (const entry of await entries(path)) await visit(join(path, entry))
    else if (found?.isFile()) {
      const identity = `${found.dev}:${found.ino}`
      if (found.nlink > 1 && counted.has(identity)) return
      counted.add(identity)
      size += found.size
    }
  }
  await visit(folder)
  return size
}

/**
 * A lock file, so that two processes do not download the same file twice. It is a courtesy, not what correctness rests
 * on: writers put the same bytes at the same places, and the result is hashed before it is renamed into the cache. (So
 * it may be wrong at times: file systems of clusters keep no promises, and a process can be stopped for an hour.)
 *
 * The owner touches the file while it lives. A lock is stale when its process is gone from this machine, or when it has
 * not been touched for a while by the waiter's own clock, whatever the clocks of other machines say.
 */

import { mkdir, open, readFile, rename, stat, unlink, utimes } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { wait } from '../request.js'
import { has_code, is_missing } from './files.js'

const TOUCH_MS = 5_000
const STALE_MS = 30_000
const POLL_MS = 100

interface Owner {
  pid: number
  host: string
  id: string
}

/** Runs `work` while holding the lock at `path`. Waits for another holder, until `signal` fires. */
export async function with_lock<T>(path: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const owner: Owner = { pid: process.pid, host: hostname(), id: Math.random().toString(36).slice(2) }
  await acquire(path, owner, signal)
  const touch = setInterval(() => {
    const now = new Date()
    utimes(path, now, now).catch(() => {})
  }, TOUCH_MS)
  touch.unref()
  try {
    return await work()
  } finally {
    clearInterval(touch)
    // Someone who thought that we were gone may hold it by now.
    if ((await read_owner(path))?.id === owner.id) await unlink(path).catch(() => {})
  }
}

async function acquire(path: string, owner: Owner, signal: AbortSignal | undefined): Promise<void> {
  let seen = ''
  let seen_at = 0
  while (!(await create(path, owner))) {
    const holder = await read_owner(path)
    const state = `${holder?.id} ${await touched(path)}`
    const now = performance.now()
    if (state !== seen) {
      seen = state
      seen_at = now
    }
    if (is_gone(holder) || now - seen_at > STALE_MS) await remove_stale(path, holder)
    else await wait(POLL_MS, signal)
  }
}

async function create(path: string, owner: Owner): Promise<boolean> {
  await mkdir(dirname(path), { recursive: true })
  try {
    const file = await open(path, 'wx')
    try {
      await file.writeFile(JSON.stringify(owner))
    } finally {
      await file.close()
    }
    return true
  } catch (error) {
    // Someone cleared the cache just now.
    if (has_code(error, 'ENOENT')) return false
    // Windows says EPERM for a file that is about to be removed.
    if (has_code(error, 'EEXIST') || (process.platform === 'win32' && has_code(error, 'EPERM'))) return false
    throw error
  }
}

async function read_owner(path: string): Promise<Owner | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Owner
  } catch {
    // Gone, or not written yet.
    return undefined
  }
}

async function touched(path: string): Promise<number | undefined> {
  return stat(path).then(
    (found) => found.mtimeMs,
    () => undefined,
  )
}

function is_gone(holder: Owner | undefined): boolean {
  if (!holder || holder.host !== hostname() || !Number.isInteger(holder.pid)) return false
  try {
    process.kill(holder.pid, 0)
    return false
  } catch (error) {
    return has_code(error, 'ESRCH')
  }
}

/** Moves the lock aside first: of several waiters that found it stale, one succeeds. */
async function remove_stale(path: string, holder: Owner | undefined): Promise<void> {
  const aside = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}`
  try {
    await rename(path, aside)
  } catch (error) {
    if (is_missing(error) || has_code(error, 'EPERM', 'EBUSY')) return
    throw error
  }
  // Another waiter was faster and this is its new lock. Putting it back can only fail where a third has one by now.
  if ((await read_owner(aside))?.id !== holder?.id) await rename(aside, path).catch(() => {})
  else await unlink(aside).catch(() => {})
}

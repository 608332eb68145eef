/**
 * A lock file, so that two processes do not download the same file twice. It is a courtesy, not what correctness rests
 * on: writers put the same bytes at the same places, and the result is hashed before it is renamed into the cache. (So
 * it may be wrong at times: file systems of clusters keep no promises, and a process can be stopped for an hour.)
 *
 * The owner touches the file while it lives. A lock is stale when its process is gone from this machine, or when it has
 * not been touched for a while by the waiter's own clock, whatever the clocks of other machines say.
 */

import { mkdir, open, readFile, stat, unlink, utimes } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { wait } from '../request.js'
import { has_code } from './files.js'

const TOUCH_MS = 5_000
const STALE_MS = 30_000
const POLL_MS = 100

interface Owner {
  pid: number
  host: string
  id: string
}

/** Runs `work` while holding the lock at `path`. Waits for another holder, until `signal` fires. */
export async function with_lock<T>(
  path: string,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
  { touch_ms = TOUCH_MS, stale_ms = STALE_MS } = {},
): Promise<T> {
  const owner: Owner = { pid: process.pid, host: hostname(), id: Math.random().toString(36).slice(2) }
  await acquire(path, owner, signal, stale_ms)
  const touch = setInterval(() => {
    const now = new Date()
    utimes(path, now, now).catch(() => {})
  }, touch_ms)
  touch.unref()
  try {
    return await work()
  } finally {
    clearInterval(touch)
    // Someone who thought that we were gone may hold it by now.
    if ((await read_owner(path))?.id === owner.id) await unlink(path).catch(() => {})
  }
}

async function acquire(path: string, owner: Owner, signal: AbortSignal | undefined, stale_ms: number): Promise<void> {
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
    if (is_gone(holder) || now - seen_at > stale_ms) await remove_stale(path, holder)
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

/**
 * Removes a lock that was found stale, unless it has changed hands since. Of several waiters that found it so, one at a
 * time looks again and removes it, under a second lock: else the slower would remove the new lock of the faster.
 */
async function remove_stale(path: string, holder: Owner | undefined): Promise<void> {
  const guard = `${path}.stale`
  try {
    await (await open(guard, 'wx')).close()
  } catch (error) {
    if (!has_code(error, 'EEXIST', 'ENOENT', 'EPERM')) throw error
    // Held for less than a millisecond, if its holder was not ended just then.
    const since = await touched(guard)
    if (since !== undefined && Date.now() - since > STALE_MS) await unlink(guard).catch(() => {})
    else await new Promise((resolve) => setTimeout(resolve, 5))
    return
  }
  try {
    if ((await read_owner(path))?.id === holder?.id) await unlink(path).catch(() => {})
  } finally {
    await unlink(guard).catch(() => {})
  }
}

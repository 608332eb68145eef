import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, it } from 'vitest'
import { with_lock } from '../../ts/hub/node/lock.js'
import { wait } from '../../ts/hub/request.js'
import { failure } from './hub_fixture.js'

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'switch-lock-'))
  path = join(folder, 'a.owner')
  return () => rmSync(folder, { recursive: true })
})

/** Work that records whether another ran at the same time. */
function exclusive() {
  let running = 0
  const seen = { most: 0, runs: 0 }
  const work = async () => {
    seen.runs++
    seen.most = Math.max(seen.most, ++running)
    await wait(5, undefined)
    running--
  }
  return { seen, work }
}

it('lets one in at a time, and leaves nothing', async () => {
  const { seen, work } = exclusive()
  await Promise.all(Array.from({ length: 6 }, () => with_lock(path, undefined, work)))
  expect(seen).toEqual({ most: 1, runs: 6 })
  expect(readdirSync(folder)).toEqual([])
})

it('is free again after work that failed', async () => {
  await failure(with_lock(path, undefined, () => Promise.reject(new Error('no'))))
  expect(await with_lock(path, undefined, async () => 1)).toBe(1)
})

it('is taken at once from a process that has ended, by one of many', async () => {
  const { pid } = spawnSync(process.execPath, ['--version'])
  writeFileSync(path, JSON.stringify({ pid, host: hostname(), id: 'dead' }))
  const { seen, work } = exclusive()
  const started = Date.now()
  await Promise.all(Array.from({ length: 6 }, () => with_lock(path, undefined, work)))
  expect(seen).toEqual({ most: 1, runs: 6 })
  expect(Date.now() - started).toBeLessThan(4_000)
  expect(readdirSync(folder)).toEqual([])
})

it.each([
  ['of another machine', JSON.stringify({ pid: 1, host: 'another', id: 'far' })],
  ['whose owner was ended before it could sign', ''],
])('%s is waited for until it is not touched any more, whatever its clock says', async (_, content) => {
  writeFileSync(path, content)
  const future = new Date(Date.now() + 3_600_000)
  utimesSync(path, future, future)
  const started = Date.now()
  let touches = 0
  const touch = setInterval(() => {
    const time = new Date(future.getTime() + ++touches * 1000)
    if (touches < 4) utimesSync(path, time, time)
  }, 150)
  await with_lock(path, undefined, async () => {}, { stale_ms: 300 })
  clearInterval(touch)
  expect(Date.now() - started).toBeGreaterThan(600)
})

it('is touched while it is held', async () => {
  const outer = with_lock(path, undefined, () => wait(700, undefined), { touch_ms: 50 })
  await wait(20, undefined)
  const started = Date.now()
  await with_lock(path, undefined, async () => {}, { stale_ms: 250 })
  expect(Date.now() - started).toBeGreaterThan(500)
  await outer
})

it('is not removed by an owner that lost it', async () => {
  await with_lock(path, undefined, async () => writeFileSync(path, JSON.stringify({ pid: 1, host: 'x', id: 'other' })))
  expect(JSON.parse(readFileSync(path, 'utf8')).id).toBe('other')
})

it('gives up waiting when the signal fires', async () => {
  writeFileSync(path, JSON.stringify({ pid: process.pid, host: hostname(), id: 'held' }))
  expect(await failure(with_lock(path, AbortSignal.timeout(50), async () => {}))).toMatchObject({ code: 'ABORTED' })
})

/** `env` sets what calls leave out. */

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { AutoConfig, env, list_cached } from '../../ts/entry/node.js'

const original = { ...env }
let folder: string
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'env-'))
  env.cacheDir = folder
})
afterEach(() => {
  Object.assign(env, original)
  rmSync(folder, { recursive: true, force: true })
})

test('cacheDir, remoteHost and fetch', async () => {
  const asked: string[] = []
  env.remoteHost = 'http://hub.example'
  env.fetch = async (input) => {
    asked.push(String(input))
    return new Response('{}', { status: 404, headers: { 'x-error-code': 'RepoNotFound' } })
  }
  await expect(AutoConfig.from_pretrained('owner/name')).rejects.toMatchObject({ code: 'HUB_NOT_FOUND' })
  expect(asked.length).toBeGreaterThan(0)
  expect(asked.every((url) => url.startsWith('http://hub.example/'))).toBe(true)
  expect(await list_cached()).toEqual([])
})

test('allowRemoteModels: false asks nobody, unless the call says otherwise', async () => {
  let asked = 0
  env.allowRemoteModels = false
  env.fetch = async () => {
    asked++
    return new Response('', { status: 404 })
  }
  await expect(AutoConfig.from_pretrained('owner/name')).rejects.toMatchObject({ code: 'HUB_OFFLINE' })
  expect(asked).toBe(0)
  await AutoConfig.from_pretrained('owner/name', { local_files_only: false }).catch(() => {})
  expect(asked).toBeGreaterThan(0)
})

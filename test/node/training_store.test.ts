/** Checkpoint folders are there as a whole or not at all, and the right ones are removed. */

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MemoryStore, type TrainingStore } from '../../ts/entry/node.js'
import { find_checkpoint, list_checkpoints, rotate_checkpoints } from '../../ts/training/checkpoint.js'
import { new_state } from '../../ts/training/state.js'
import { FolderStore } from '../../ts/training/store/folder_store.js'
import { text_file } from '../../ts/training/store/store.js'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'store-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let count = 0
const stores: [string, () => TrainingStore][] = [
  ['memory', () => new MemoryStore()],
  ['a folder', () => new FolderStore(path.join(folder, String(count++)))],
]

const files = (text: string) => [text_file('a.txt', text), text_file('b.txt', '')]
const state = (step: number) => ({ ...new_state(10, 1, {}), global_step: step, files: { 'a.txt': 1, 'b.txt': 0 } })
const checkpoint = (store: TrainingStore, step: number) =>
  store.write_folder(`checkpoint-${step}`, [
    ...files('x'),
    text_file('trainer_state.json', JSON.stringify(state(step))),
  ])

describe.each(stores)('%s', (_, make) => {
  test('keeps folders and files', async () => {
    const store = make()
    expect(await store.folders()).toEqual([])
    await store.write_folder('one', files('first'))
    await store.write_folder('one', files('second'))
    await store.write('top.txt', [Uint8Array.of(65)])
    await store.append('log', 'a\n')
    await store.append('log', 'b\n')
    expect(await store.folders()).toEqual(['one'])
    expect((await store.files('one')).sort((a, b) => a.name.localeCompare(b.name))).toEqual([
      { name: 'a.txt', size: 6 },
      { name: 'b.txt', size: 0 },
    ])
    expect(new TextDecoder().decode((await store.read('a.txt', 'one')) ?? undefined)).toBe('second')
    expect(new TextDecoder().decode((await store.read('log')) ?? undefined)).toBe('a\nb\n')
    expect(await store.read('none')).toBeNull()
    expect(await store.source('a.txt', 'none')).toBeNull()
    expect((await store.source('a.txt', 'one'))?.size).toBe(6)
    await store.remove_folder('one')
    await store.remove_folder('one')
    await store.remove('log')
    expect(await store.folders()).toEqual([])
    expect((await store.files()).map(({ name }) => name)).toEqual(['top.txt'])
  })

  test('a writer that fails leaves what was there', async () => {
    const store = make()
    await store.write_folder('one', files('first'))
    const failing = (function* () {
      yield text_file('a.txt', 'half')
      throw new Error('interrupted')
    })()
    await expect(store.write_folder('one', failing)).rejects.toThrow('interrupted')
    await store.tidy()
    expect(new TextDecoder().decode((await store.read('a.txt', 'one')) ?? undefined)).toBe('first')
    expect(await store.folders()).toEqual(['one'])
  })

  test('checkpoints are in the order of their steps, and the oldest go first', async () => {
    const store = make()
    for (const step of [100, 20, 3]) await checkpoint(store, step)
    await store.write_folder('something-else', files('x'))
    expect(await list_checkpoints(store)).toEqual(['checkpoint-3', 'checkpoint-20', 'checkpoint-100'])
    expect(await rotate_checkpoints(store, null, null)).toEqual([])
    expect(await rotate_checkpoints(store, 2, 'checkpoint-3')).toEqual(['checkpoint-20'])
    // The best and the newest stay, whatever the limit.
    expect(await rotate_checkpoints(store, 1, 'checkpoint-3')).toEqual([])
    expect(await rotate_checkpoints(store, 1, null)).toEqual(['checkpoint-3'])
    expect(await store.folders()).toContain('something-else')
  })

  test('a checkpoint is found by its name, or as the newest', async () => {
    const store = make()
    expect(await find_checkpoint(store, true)).toBeNull()
    await checkpoint(store, 5)
    await checkpoint(store, 10)
    expect((await find_checkpoint(store, true))?.name).toBe('checkpoint-10')
    expect((await find_checkpoint(store, 'some/where/checkpoint-5/'))?.state.global_step).toBe(5)
    await expect(find_checkpoint(store, 'checkpoint-7')).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' })
    await expect(find_checkpoint(store, 'models/t5')).rejects.toMatchObject({ code: 'INVALID_INPUT' })
  })
})

describe('a folder', () => {
  test('hides and clears away what an interrupted writer left', async () => {
    const place = path.join(folder, 'interrupted')
    mkdirSync(path.join(place, '.checkpoint-5.abc.tmp'), { recursive: true })
    writeFileSync(path.join(place, '.report.html.abc.tmp'), 'half')
    const store = new FolderStore(place)
    expect(await store.folders()).toEqual([])
    expect(await store.files()).toEqual([])
    await store.tidy()
    expect(readdirSync(place)).toEqual([])
  })

  test('a damaged checkpoint is named, and an earlier one is taken instead', async () => {
    const place = path.join(folder, 'damaged')
    const store = new FolderStore(place)
    await checkpoint(store, 5)
    await checkpoint(store, 10)
    truncateSync(path.join(place, 'checkpoint-10/a.txt'), 0)
    await expect(find_checkpoint(store, 'checkpoint-10')).rejects.toMatchObject({
      code: 'CHECKPOINT_CORRUPT',
      message: expect.stringContaining('a.txt has 0 bytes; 1 were written'),
    })
    expect((await find_checkpoint(store, true))?.name).toBe('checkpoint-5')
    writeFileSync(path.join(place, 'checkpoint-5/trainer_state.json'), '{')
    await expect(find_checkpoint(store, true)).rejects.toMatchObject({ code: 'CHECKPOINT_CORRUPT' })
  })

  test('a place that cannot be written is a typed error', async () => {
    const file = path.join(folder, 'a-file')
    writeFileSync(file, 'x')
    const store = new FolderStore(path.join(file, 'inside'))
    await expect(store.write_folder('one', files('x'))).rejects.toMatchObject({
      code: 'FILE_READ',
      details: { reason: 'ENOTDIR' },
    })
    await expect(store.append('log', 'x')).rejects.toMatchObject({ code: 'FILE_READ' })
    expect(readFileSync(file, 'utf8')).toBe('x')
    expect(existsSync(path.join(file, 'inside'))).toBe(false)
  })
})

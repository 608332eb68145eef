import { describe, expect, it } from 'vitest'
import { clear_cached, weights_files } from '../../ts/hub/index.js'
import { COMMIT, failure, NAME, text, use_hub } from './hub_fixture.js'

const hub = use_hub()
const SHARDS = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
const index = (map: unknown) => JSON.stringify({ metadata: { total_size: 2 }, weight_map: map })
const INDEX = index({ a: SHARDS[1], b: SHARDS[0], c: SHARDS[1] })
const BIN = ['pytorch_model-00001-of-00001.bin']

/** The weights that are found among these files. */
async function find(files: Record<string, string>, variant?: string) {
  const repository = hub.server.repositories[NAME]
  if (!repository) throw new Error('no repository')
  // A commit cannot change, so what is known of it is forgotten first.
  await clear_cached(NAME)
  repository.commits = {
    [COMMIT]: Object.fromEntries(Object.entries(files).map(([name, content]) => [name, text(content)])),
  }
  return weights_files(await hub.open(), { variant })
}
const with_files = (...names: string[]) => Object.fromEntries(names.map((name) => [name, 'x']))

describe('which files hold the weights', () => {
  it('is decided as in transformers', async () => {
    const all = {
      ...with_files('model.safetensors', 'pytorch_model.bin', ...SHARDS, ...BIN),
      'model.safetensors.index.json': INDEX,
      'pytorch_model.bin.index.json': index({ a: BIN[0] }),
    }
    expect(await find(all)).toEqual({ files: ['model.safetensors'] })
  })

  it.each([
    [
      'shards before a pickle',
      { ...with_files('pytorch_model.bin', ...SHARDS), 'model.safetensors.index.json': INDEX },
      { files: SHARDS, index: INDEX },
    ],
    ['a pickle', with_files('pytorch_model.bin', 'config.json'), { files: ['pytorch_model.bin'] }],
    [
      'shards of pickles',
      { ...with_files(...BIN), 'pytorch_model.bin.index.json': index({ a: BIN[0] }) },
      { files: BIN, index: index({ a: BIN[0] }) },
    ],
  ])('finds %s', async (_, files, expected) => {
    expect(await find(files)).toEqual(expected)
  })

  it('downloads nothing but the index', async () => {
    await find({ ...with_files(...SHARDS), 'model.safetensors.index.json': INDEX })
    expect(hub.server.seen(/resolve/).map(({ path }) => path.split('/').at(-1))).toEqual([
      'model.safetensors.index.json',
    ])
  })

  it('knows variants', async () => {
    const files = with_files('model.safetensors', 'model.fp16.safetensors')
    expect(await find(files, 'fp16')).toEqual({ files: ['model.fp16.safetensors'] })
    const sharded = { ...with_files('model.safetensors', ...SHARDS), 'model.safetensors.index.fp16.json': INDEX }
    expect(await find(sharded, 'fp16')).toEqual({ files: SHARDS, index: INDEX })
    expect(await failure(find(files, 'bf16'))).toMatchObject({
      code: 'HUB_NOT_FOUND',
      message: expect.stringContaining('model.bf16.safetensors'),
    })
    expect((await failure(find(files, '../x'))).code).toBe('INVALID_OPTION')
  })

  it('lists what is there where there are none', async () => {
    const error = await failure(find(with_files('config.json', 'tf_model.h5')))
    expect(error.code).toBe('HUB_NOT_FOUND')
    expect(error.message).toMatch(/no model.safetensors .* It has config.json, tf_model.h5/)
  })

  it('names a shard that is missing', async () => {
    const error = await failure(find({ ...with_files(SHARDS[0] as string), 'model.safetensors.index.json': INDEX }))
    expect(error.code).toBe('HUB_NOT_FOUND')
    expect(error.message).toContain(SHARDS[1])
  })

  it.each([
    ['no JSON', '{'],
    ['an array', '[]'],
    ['null', 'null'],
    ['no map', '{}'],
    ['an empty map', index({})],
    ['a map of numbers', index({ a: 1 })],
    ['a shard outside the folder', index({ a: '../../etc/passwd' })],
    ['an absolute shard', index({ a: '/etc/passwd' })],
    ['a shard on a drive', index({ a: 'C:\\x' })],
  ])('refuses an index with %s', async (_, content) => {
    const error = await failure(find({ 'model.safetensors.index.json': content }))
    expect(error.code).toBe('CHECKPOINT_CORRUPT')
    expect(error.message).toContain('model.safetensors.index.json')
  })
})

/**
 * Checkpoints of a training, `checkpoint-STEP`: what a model folder holds, the optimiser's state, and
 * `trainer_state.json`, which is written last and lists the sizes of the others. With adapters, those instead of weights.
 */

import type { Source } from '../backend/contract.js'
import { CheckpointError, FileError, InputError } from '../errors.js'
import type { TrainingEngine, TrainingPart } from './engine.js'
import { parse_state, type TrainerState } from './state.js'
import { type StoredFile, type TrainingStore, text_file } from './store/store.js'

const NAME = /^checkpoint-(\d+)$/
const STATE = 'trainer_state.json'

const PARTS: Readonly<Record<TrainingPart, { files: RegExp; index: RegExp }>> = {
  weights: { files: /^model.*\.safetensors$/, index: /^model.*\.index\.json$/ },
  optimizer: { files: /^optimizer.*\.safetensors$/, index: /^optimizer.*\.index\.json$/ },
  adapters: { files: /^adapter.*\.safetensors$/, index: /^adapter.*\.index\.json$/ },
}

export function checkpoint_name(step: number): string {
  return `checkpoint-${step}`
}

/** Complete checkpoints, oldest first. */
export async function list_checkpoints(store: TrainingStore): Promise<string[]> {
  const names = (await store.folders()).filter((name) => NAME.test(name))
  return names.sort((a, b) => step_of(a) - step_of(b))
}

function step_of(name: string): number {
  return Number(NAME.exec(name)?.[1] ?? -1)
}

export interface CheckpointContents {
  engine: TrainingEngine
  state: TrainerState
  /** Whether adapters are trained, and the weights stay as they are. */
  adapters: boolean
  /** The small files of a model folder: configs, tokenizer, options. */
  texts: Readonly<Record<string, string>>
}

/** Writes a checkpoint, whole or not at all. */
export async function write_checkpoint(store: TrainingStore, contents: CheckpointContents): Promise<string> {
  const name = checkpoint_name(contents.state.global_step)
  await store.write_folder(name, files_of(contents))
  return name
}

async function* files_of({ engine, state, adapters, texts }: CheckpointContents): AsyncGenerator<StoredFile> {
  const sizes: Record<string, number> = {}
  const counted = async function* (files: AsyncIterable<StoredFile> | Iterable<StoredFile>) {
    for await (const { name, chunks } of files) {
      sizes[name] = 0
      yield {
        name,
        chunks: (async function* () {
          for await (const chunk of chunks) {
            sizes[name] = (sizes[name] as number) + chunk.byteLength
            yield chunk
          }
        })(),
      }
    }
  }
  yield* counted(adapters ? engine.part_files('adapters') : engine.weight_files())
  yield* counted(engine.part_files('optimizer', { global_step: String(state.global_step) }))
  yield* counted(Object.entries(texts).map(([name, text]) => text_file(name, text)))
  yield text_file(STATE, `${JSON.stringify({ ...state, files: sizes }, null, 1)}\n`)
}

/**
 * The checkpoint that `which` means (`true`: the newest that is whole), with its state. Null where `true` finds none.
 *
 * @throws {FileError} `FILE_NOT_FOUND` for a name that is not there; {CheckpointError} `CHECKPOINT_CORRUPT` where none of
 * them is whole.
 */
export async function find_checkpoint(
  store: TrainingStore,
  which: string | true,
): Promise<{ name: string; state: TrainerState } | null> {
  const names = await list_checkpoints(store)
  if (which !== true) {
    const name = which
      .replace(/[\\/]+$/, '')
      .split(/[\\/]/)
      .at(-1) as string
    if (!NAME.test(name)) {
      throw new InputError(`resume_from_checkpoint names a checkpoint such as checkpoint-500, not "${which}".`)
    }
    if (!names.includes(name)) {
      const found = names.length > 0 ? `it holds ${names.join(', ')}` : 'it holds none'
      throw new FileError('FILE_NOT_FOUND', `There is no ${name} in ${store.location}; ${found}.`, {
        details: { checkpoint: name, found: names },
      })
    }
    return { name, state: await read_state(store, name) }
  }
  let failure: unknown
  for (const name of names.reverse()) {
    try {
      return { name, state: await read_state(store, name) }
    } catch (error) {
      // An earlier one may be whole.
      if (!(error instanceof CheckpointError)) throw error
      failure ??= error
    }
  }
  if (failure !== undefined) throw failure
  return null
}

async function read_state(store: TrainingStore, name: string): Promise<TrainerState> {
  const place = `${store.location}/${name}`
  const bytes = await store.read(STATE, name)
  if (bytes === null)
    throw new CheckpointError('CHECKPOINT_CORRUPT', `${place} has no ${STATE}: it is no checkpoint of a training.`)
  const { files = {}, ...state } = parse_state(bytes, place) as TrainerState & { files?: Record<string, number> }
  const found = new Map((await store.files(name)).map((file) => [file.name, file.size]))
  for (const [file, size] of Object.entries(files)) {
    if (found.get(file) === size) continue
    throw new CheckpointError(
      'CHECKPOINT_CORRUPT',
      `${place}/${file} has ${found.get(file) ?? 'no'} bytes; ${size} were written. Resume from an earlier checkpoint.`,
      { details: { file, found: found.get(file) ?? null, expected: size } },
    )
  }
  return state
}

/** Gives a training what a checkpoint holds. */
export async function restore_checkpoint(
  store: TrainingStore,
  name: string,
  engine: TrainingEngine,
  parts: readonly TrainingPart[],
): Promise<void> {
  for (const part of parts) {
    const { files, index } = PARTS[part]
    const names = (await store.files(name)).map((file) => file.name).sort()
    const sources: Source[] = []
    for (const file of names.filter((each) => files.test(each))) {
      const source = await store.source(file, name)
      if (source !== null) sources.push(source)
    }
    if (sources.length === 0) {
      throw new CheckpointError('CHECKPOINT_MISMATCH', `${store.location}/${name} holds no ${part}.`, {
        details: { checkpoint: name, part },
      })
    }
    const index_name = names.find((each) => index.test(each))
    const bytes = index_name === undefined ? null : await store.read(index_name, name)
    await engine.restore(part, sources, bytes === null ? undefined : new TextDecoder().decode(bytes))
  }
}

/** Removes the oldest checkpoints beyond `limit`, never the newest nor `best`. */
export async function rotate_checkpoints(
  store: TrainingStore,
  limit: number | null,
  best: string | null,
): Promise<string[]> {
  if (limit === null) return []
  const names = await list_checkpoints(store)
  const kept = new Set([names.at(-1), best])
  const removed: string[] = []
  for (const name of names) {
    if (names.length - removed.length <= limit) break
    if (kept.has(name)) continue
    await store.remove_folder(name)
    removed.push(name)
  }
  return removed
}

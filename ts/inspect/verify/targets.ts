/** What the paths given to `verify` are. Looks at names and, for JSON files, at their fields. */

import { readdir, readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { FileError, InputError } from '../../errors.js'
import { is_record } from '../../utils/json.js'
import { parse_json } from '../../utils/repository.js'
import type { Form } from './report.js'

export type Target =
  | { form: 'case'; path: string }
  | { form: Exclude<Form, 'case'>; path: string; json: Record<string, unknown> }

const EXPECTED = 'expected.safetensors'
const EXPECTED_TOKENS = 'expected.json'
/** Far above any file of these forms; a larger one is something else. */
const MAX_JSON_BYTES = 256 * 2 ** 20

const FORMS =
  `a case folder (with ${EXPECTED}), a folder of such folders, or a JSON file of routing cases ("cases" with "logits"), ` +
  'of processed scores ("scores" and "cases") or of tokenizer encodings ("encodings")'

/**
 * Every case folder and file that the paths stand for, in order.
 *
 * @throws {FileError} FILE_NOT_FOUND or FILE_READ.
 * @throws {InputError} for a path of none of the known forms.
 */
export async function find_targets(paths: readonly string[]): Promise<Target[]> {
  if (paths.length === 0) throw new InputError(`Nothing to verify. Name ${FORMS}.`)
  const found = await Promise.all(paths.map(find))
  return found.flat()
}

async function find(target: string): Promise<Target[]> {
  const info = await attempt(target, () => stat(target))
  if (info.isDirectory()) return find_in_folder(target)
  if (!info.isFile()) throw new InputError(`${target} is neither a file nor a folder.`)
  const name = path.basename(target)
  if (!name.endsWith('.json')) {
    const hint =
      name.endsWith('.safetensors') || name.endsWith('.bin') ? ` To verify a checkpoint, name its folder.` : ''
    throw new InputError(`${target} cannot be verified: expected ${FORMS}.${hint}`)
  }
  const known = await read_known_json(target)
  if (known === null) throw new InputError(`${target} is of no known form: expected ${FORMS}.`)
  return [known]
}

async function find_in_folder(folder: string): Promise<Target[]> {
  const single = await case_in(folder)
  if (single !== null) return [single]
  const entries = await attempt(folder, () => readdir(folder, { withFileTypes: true }))
  entries.sort((a, b) => (a.name < b.name ? -1 : 1))
  const targets: Target[] = []
  for (const entry of entries) {
    const inner = path.join(folder, entry.name)
    const target = entry.isDirectory()
      ? await case_in(inner)
      : entry.name.endsWith('.json')
        ? await read_known_json(inner)
        : null
    if (target !== null) targets.push(target)
  }
  if (targets.length > 0) return targets
  const checkpoint = entries.some((entry) => entry.name === 'config.json')
  throw new InputError(
    `${folder} holds nothing to verify: ${checkpoint ? `it is a checkpoint, but ${EXPECTED} is missing` : `expected ${FORMS}`}.`,
  )
}

/** The case, or the tokenizer with its encodings, that a folder is; null where it is neither. */
async function case_in(folder: string): Promise<Target | null> {
  const names = await attempt(folder, () => readdir(folder))
  if (names.includes(EXPECTED)) return { form: 'case', path: folder }
  return names.includes(EXPECTED_TOKENS) ? read_known_json(path.join(folder, EXPECTED_TOKENS)) : null
}

async function read_known_json(file: string): Promise<Target | null> {
  const { size } = await attempt(file, () => stat(file))
  if (size > MAX_JSON_BYTES)
    throw new InputError(`${file} has ${size} bytes; files of expected values have at most ${MAX_JSON_BYTES}.`)
  const json = parse_json(await attempt(file, () => readFile(file)), file)
  if (!is_record(json)) return null
  const form = form_of(json)
  return form === null ? null : { form, path: file, json }
}

export function form_of(json: Record<string, unknown>): Exclude<Form, 'case'> | null {
  if (Array.isArray(json.encodings)) return 'tokenizer'
  if (!Array.isArray(json.cases)) return null
  if ('scores' in json) return 'processors'
  return json.cases.every((entry) => is_record(entry) && 'logits' in entry && 'expert' in entry) ? 'routing' : null
}

async function attempt<T>(target: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code
    if (reason === 'ENOENT' || reason === 'ENOTDIR')
      throw new FileError('FILE_NOT_FOUND', `${target} does not exist.`, { cause })
    throw new FileError('FILE_READ', `${target} cannot be read: ${reason ?? String(cause)}.`, { cause })
  }
}

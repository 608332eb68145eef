/** JSON files of a repository. */

import { ConfigError } from '../errors.js'
import { open_repository, type Repository, type RepositoryOptions, required_file } from '../hub/index.js'

export type { RepositoryOptions } from '../hub/index.js'

/** Reads one JSON file of a hub repository or folder. */
export async function read_repository_json(
  name_or_path: string,
  file: string,
  options: RepositoryOptions,
): Promise<unknown> {
  const repository = await open_repository(name_or_path, options)
  try {
    return parse_json(await required_file(repository, file), file)
  } finally {
    repository.close()
  }
}

/** The value of a JSON file that may be missing: undefined then. */
export async function optional_json(repository: Repository, file: string): Promise<unknown> {
  const bytes = await repository.read(file)
  return bytes === null ? undefined : parse_json(bytes, file)
}

/** Parses a JSON file's bytes, a byte order mark in front included. */
export function parse_json(bytes: Uint8Array, file: string): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new ConfigError(`${file} is not valid JSON: ${reason}.`, { cause, details: { file } })
  }
}

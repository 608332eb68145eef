/** The files that a tokenizer is read from, in a checkpoint's own repository or folder. */

import { FileError, type SwitchTransformersError } from '../errors.js'
import { open_repository, type RepositoryOptions } from '../hub/index.js'
import { Field, parse_json } from './field.js'
import type { TokenizerFiles } from './pre_trained.js'
import { t5_definition_of_spiece } from './t5.js'
import type { FileReader } from './types.js'

export type TokenizerClass = 'PreTrainedTokenizer' | 'T5Tokenizer'

export interface LoadedFiles {
  files: TokenizerFiles
  /** The class that the files ask for. */
  tokenizer_class: TokenizerClass
}

/** Model types whose tokenizer is T5's where no file says otherwise. */
const T5_MODELS = ['switch_transformers', 't5', 'mt5', 'longt5']

/** Opens a repository or folder, reads a tokenizer's files and closes it. */
export async function open_tokenizer_files(name_or_path: string, options: RepositoryOptions): Promise<LoadedFiles> {
  const repository = await open_repository(name_or_path, options)
  try {
    return await read_tokenizer_files(
      (file) => repository.read(file),
      () => repository.absent('tokenizer.json'),
    )
  } finally {
    repository.close()
  }
}

/**
 * Reads a tokenizer's files: `tokenizer.json`, or else `spiece.model`, and the small ones beside it.
 *
 * @param absent Makes the error for when neither is there.
 */
export async function read_tokenizer_files(
  read: FileReader,
  absent: () => SwitchTransformersError | Promise<SwitchTransformersError> = no_tokenizer,
): Promise<LoadedFiles> {
  const json = async (file: string) => {
    const bytes = await read(file)
    return bytes === null ? null : parse_json(bytes, file)
  }
  const [definition, tokenizer_config, model_config] = await Promise.all([
    json('tokenizer.json'),
    json('tokenizer_config.json'),
    json('config.json'),
  ])
  const config = tokenizer_config ?? new Field({}, 'tokenizer_config.json')
  // Asked for only where they count: from an address, asking for what is not there leaves an error in a page's console.
  const legacy = config.get('added_tokens_decoder').absent ? ['special_tokens_map.json', 'added_tokens.json'] : []
  const [special_tokens_map = null, added_tokens = null] = await Promise.all(legacy.map(json))
  const beside = { config, special_tokens_map, added_tokens }
  if (definition !== null) {
    return { files: { definition, ...beside }, tokenizer_class: choose_class(config, model_config) }
  }
  const spiece = await read('spiece.model')
  if (spiece === null) throw await absent()
  // A chunk of its own: few checkpoints come without a tokenizer.json.
  const model = (await import('./spiece.js')).parse_spiece(spiece, 'spiece.model')
  // A SentencePiece model without a tokenizer.json is T5's, whatever class is named: it says nothing of cutting.
  return {
    files: { definition: t5_definition_of_spiece(model, 'spiece.model', config), ...beside },
    tokenizer_class: 'T5Tokenizer',
  }
}

function choose_class(config: Field, model_config: Field | null): TokenizerClass {
  const name = config.get('tokenizer_class').absent
    ? model_config?.get('tokenizer_class')
    : config.get('tokenizer_class')
  if (name && !name.absent)
    return name.string().replace(/Fast$/, '') === 'T5Tokenizer' ? 'T5Tokenizer' : 'PreTrainedTokenizer'
  const model_type = model_config?.get('model_type').value
  return typeof model_type === 'string' && T5_MODELS.includes(model_type) ? 'T5Tokenizer' : 'PreTrainedTokenizer'
}

function no_tokenizer(): FileError {
  return new FileError(
    'FILE_NOT_FOUND',
    'There is no tokenizer.json and no spiece.model; one of them is needed for a tokenizer.',
  )
}

/** The tokenizer that a checkpoint asks for. */

import type { RepositoryOptions } from '../hub/index.js'
import { type LoadedFiles, open_tokenizer_files, read_tokenizer_files } from './files.js'
import { PreTrainedTokenizer, T5Tokenizer } from './pre_trained.js'
import type { FileReader } from './types.js'

// biome-ignore lint/complexity/noStaticOnlyClass: the name and the form are those of transformers.js.
export class AutoTokenizer {
  /**
   * The tokenizer of a checkpoint: a folder, or a repository on the hub.
   *
   * @throws TokenizerError for files that are malformed or ask for what is not supported; FILE_NOT_FOUND and the hub's
   *   errors for files that cannot be had.
   */
  static async from_pretrained(name_or_path: string, options: RepositoryOptions = {}): Promise<PreTrainedTokenizer> {
    return make(await open_tokenizer_files(name_or_path, options))
  }

  /** The same from wherever `read` finds files: `tokenizer.json` or `spiece.model`, and those beside it. */
  static async from_files(read: FileReader): Promise<PreTrainedTokenizer> {
    return make(await read_tokenizer_files(read))
  }
}

function make({ files, tokenizer_class }: LoadedFiles): PreTrainedTokenizer {
  return tokenizer_class === 'T5Tokenizer' ? new T5Tokenizer(files) : new PreTrainedTokenizer(files)
}

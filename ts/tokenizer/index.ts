/** Tokenizers: text to ids and back. */
export type { AddedToken } from './added_vocabulary.js'
export { AutoTokenizer } from './auto.js'
export type { IdsLike, RowsLike } from './id_lists.js'
export type { BatchEncoding, DecodeOptions, TokenizerOptions } from './options.js'
export { PreTrainedTokenizer, T5Tokenizer } from './pre_trained.js'
export { StreamDecoder } from './stream_decoder.js'
export type { FileReader } from './types.js'

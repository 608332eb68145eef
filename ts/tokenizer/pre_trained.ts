/** Tokenizers as users meet them: callable, and with the methods of transformers and transformers.js. */

import { InputError, OptionError } from '../errors.js'
import type { RepositoryOptions } from '../hub/index.js'
import { Tensor } from '../tensor.js'
import { Callable } from '../utils/callable.js'
import type { AddedToken } from './added_vocabulary.js'
import { clean_up_tokenization } from './clean_up.js'
import { Field } from './field.js'
import { open_tokenizer_files } from './files.js'
import { type IdsLike, type RowsLike, to_id_list, to_id_rows } from './id_lists.js'
import { type BatchEncoding, check_options, type DecodeOptions, type TokenizerOptions } from './options.js'
import { assemble, make_plan, type Plan, padded_length } from './padding.js'
import { Pipeline } from './pipeline.js'
import type { Processed } from './post_processor.js'
import {
  add_special_tokens,
  type ConfigFiles,
  ROLES,
  type Role,
  read_added_tokens,
  read_special_tokens,
} from './special_tokens.js'
import { T5_ROLES, t5_config, t5_definition } from './t5.js'
import type { Token } from './types.js'

/** What a tokenizer is made from: the contents of a checkpoint's files. */
export interface TokenizerFiles extends ConfigFiles {
  /** tokenizer.json, or its equivalent. */
  definition: Field
}

/** The encoded form of one text or one batch, as `return_tensor: false` gives it. */
type Lists = BatchEncoding<number[]> | BatchEncoding<number[][]>

type CallArguments = [text: string | readonly string[], options?: TokenizerOptions]

export interface PreTrainedTokenizer {
  (text: string, options: TokenizerOptions & { return_tensor: false }): BatchEncoding<number[]>
  (text: readonly string[], options: TokenizerOptions & { return_tensor: false }): BatchEncoding<number[][]>
  (text: string | readonly string[], options?: TokenizerOptions & { return_tensor?: true }): BatchEncoding
  (text: string | readonly string[], options?: TokenizerOptions): BatchEncoding | Lists
}

/** A tokenizer that does what its tokenizer.json says. */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the interface only types the call, which Callable makes.
export class PreTrainedTokenizer extends Callable<CallArguments, BatchEncoding | Lists> {
  readonly #pipeline: Pipeline
  readonly #roles: Partial<Record<Role, AddedToken>>
  readonly #special: string[]
  readonly #input_names: readonly string[]
  readonly #given: TokenizerFiles
  /** The number of tokens that the model was made for; 1e30 when its config does not say. */
  model_max_length: number
  /** The side on which padding goes where a call does not say. */
  padding_side: 'left' | 'right'
  /** The side from which rows that are too long lose tokens. */
  truncation_side: 'left' | 'right'
  /** Whether decoding removes the spaces before punctuation where a call does not say. */
  clean_up_tokenization_spaces: boolean

  /**
   * @param tokenizer_json The parsed tokenizer.json.
   * @param tokenizer_config The parsed tokenizer_config.json.
   * @throws TokenizerError for what is malformed or not supported, with the place in the file.
   */
  constructor(tokenizer_json: object, tokenizer_config: object = {}) {
    super()
    this.#given = to_files(tokenizer_json, tokenizer_config)
    const files = this._files(this.#given)
    const { definition, config } = files
    this.#pipeline = new Pipeline(definition)
    const special = read_special_tokens(files, definition, this._default_roles())
    // Tokens of the file come first; those that the config adds get the ids after them.
    special.added = [...this._own_added_tokens(definition), ...special.added].sort((a, b) => a.id - b.id)
    add_special_tokens(this.#pipeline.added, special, config)
    this.#roles = special.roles
    this.#special = [...new Set([...Object.values(special.roles), ...special.extra].map(({ content }) => content))]
    this.#input_names = config.get('model_input_names').absent
      ? ['input_ids', 'attention_mask']
      : config
          .get('model_input_names')
          .fields()
          .map((name) => name.string())
    this.model_max_length = read_max_length(config)
    this.padding_side = config.get('padding_side').one_of(['right', 'left'], 'right')
    this.truncation_side = config.get('truncation_side').one_of(['right', 'left'], 'right')
    this.clean_up_tokenization_spaces = config.get('clean_up_tokenization_spaces').boolean(false)
  }

  /** The tokenizer of a checkpoint (a folder, or a repository on the hub), as this class reads its files. */
  static async from_pretrained<T extends PreTrainedTokenizer>(
    this: new (
      tokenizer_json: object,
    ) => T,
    name_or_path: string,
    options: RepositoryOptions = {},
  ): Promise<T> {
    const { files } = await open_tokenizer_files(name_or_path, options)
    return new this(files)
  }

  /** @internal What the class makes of its files. */
  _files(files: TokenizerFiles): TokenizerFiles {
    return files
  }

  /** @internal Tokens that have a role without the files saying so. */
  _default_roles(): Partial<Record<Role, string>> {
    return {}
  }

  /** @internal The added tokens that the definition has of itself. */
  _own_added_tokens(definition: Field): ReturnType<typeof read_added_tokens> {
    return read_added_tokens(definition)
  }

  /** @internal The files that it was made from. */
  get _given(): TokenizerFiles {
    return this.#given
  }

  /**
   * Writes `tokenizer.json` and `tokenizer_config.json` into a folder, which is made where it is missing. Node only.
   *
   * @throws {FileError} `FILE_READ` where they cannot be written.
   */
  async save_pretrained(save_directory: string): Promise<void> {
    // A chunk of its own: browsers never save.
    await (await import('./saving.js')).save_tokenizer(this, save_directory)
  }

  /** @internal For the streaming decoder. */
  get _pipeline(): Pipeline {
    return this.#pipeline
  }

  get bos_token(): string | null {
    return this.#roles.bos_token?.content ?? null
  }
  get eos_token(): string | null {
    return this.#roles.eos_token?.content ?? null
  }
  get unk_token(): string | null {
    return this.#roles.unk_token?.content ?? null
  }
  get pad_token(): string | null {
    return this.#roles.pad_token?.content ?? null
  }
  get bos_token_id(): number | null {
    return this.#role_id('bos_token')
  }
  get eos_token_id(): number | null {
    return this.#role_id('eos_token')
  }
  get unk_token_id(): number | null {
    return this.#role_id('unk_token')
  }
  get pad_token_id(): number | null {
    return this.#role_id('pad_token')
  }
  get sep_token_id(): number | null {
    return this.#role_id('sep_token')
  }
  get cls_token_id(): number | null {
    return this.#role_id('cls_token')
  }
  get mask_token_id(): number | null {
    return this.#role_id('mask_token')
  }

  /** The special tokens by role, where they have one. */
  get special_tokens_map(): Partial<Record<Role, string>> {
    return Object.fromEntries(ROLES.flatMap((role) => (this.#roles[role] ? [[role, this.#roles[role].content]] : [])))
  }

  /** Every special token: those with a role first, then the others, such as T5's sentinels. */
  get all_special_tokens(): string[] {
    return [...this.#special]
  }

  get all_special_ids(): number[] {
    return this.#special.flatMap((token) => this.#pipeline.added.token_to_id(token) ?? [])
  }

  /** Entries of the vocabulary, without those that were added to it. */
  get vocab_size(): number {
    return this.#pipeline.model.size
  }

  /** Entries of the vocabulary, with those that were added to it: `len(tokenizer)` in Python. */
  get len(): number {
    return this.#pipeline.added.size
  }

  /** Ids by token, added tokens included. */
  get_vocab(): Map<string, number> {
    const vocab = new Map(this.#pipeline.model.tokens())
    for (const [id, { content }] of this.#pipeline.added.entries()) vocab.set(content, id)
    return vocab
  }

  /**
   * Encodes a text or a batch of texts.
   *
   * @returns `input_ids` and `attention_mask`, as int64 tensors of shape [rows, length], or with `return_tensor: false`
   *   as arrays: nested for a batch, flat for a single text.
   * @throws InputError for what is no text, and for rows of unequal lengths where a tensor is asked for; OptionError.
   */
  override _call(text: string | readonly string[], options: TokenizerOptions = {}): BatchEncoding | Lists {
    check_options(options)
    const rows = this.#rows(text, options)
    const side = check_side('padding_side', options.padding_side ?? this.padding_side)
    const length = padded_length(rows, this.#plan(options))
    const fill = (values: number[], value: number) => {
      const padding = new Array<number>(Math.max(0, (length ?? 0) - values.length)).fill(value)
      return side === 'right' ? values.concat(padding) : padding.concat(values)
    }
    const pad_id = length === null ? 0 : this.#pad_id()
    const columns: Record<string, number[][]> = {
      input_ids: rows.map(({ tokens }) =>
        fill(
          tokens.map(({ id }) => id),
          pad_id,
        ),
      ),
    }
    if (options.return_attention_mask ?? this.#input_names.includes('attention_mask')) {
      columns.attention_mask = rows.map(({ tokens }) => fill(new Array(tokens.length).fill(1), 0))
    }
    if (options.return_token_type_ids ?? this.#input_names.includes('token_type_ids')) {
      columns.token_type_ids = rows.map(({ type_ids }) => fill(type_ids, 0))
    }
    const form = options.return_tensor === false ? (typeof text === 'string' ? first_row : all_rows) : to_tensor
    return Object.fromEntries(
      Object.entries(columns).map(([name, values]) => [name, form(values)]),
    ) as unknown as BatchEncoding
  }

  /** The ids of one text. Takes the options of a call. */
  encode(text: string, options: Omit<TokenizerOptions, 'return_tensor'> = {}): number[] {
    if (typeof text !== 'string') throw new InputError(`encode() takes one text; found ${text_kind(text)}.`)
    return (this._call(text, { ...options, return_tensor: false }) as BatchEncoding<number[]>).input_ids
  }

  /** The tokens of one text, as strings. Special tokens are left out unless asked for. */
  tokenize(text: string, options: { text_pair?: string | null; add_special_tokens?: boolean } = {}): string[] {
    const settings = { add_special_tokens: false, ...options }
    check_options(settings)
    return this.#rows(text, settings)[0]!.tokens.map(({ value }) => value)
  }

  /** The text of a sequence of ids. Ids without a token contribute nothing, as in the reference. */
  decode(token_ids: IdsLike, options: DecodeOptions = {}): string {
    const text = this.#pipeline.decode(to_id_list(token_ids, 'token_ids'), options.skip_special_tokens ?? false)
    return (options.clean_up_tokenization_spaces ?? this.clean_up_tokenization_spaces)
      ? clean_up_tokenization(text)
      : text
  }

  /** The texts of several sequences of ids: the rows of a tensor, or of an array. */
  batch_decode(batch: RowsLike, options: DecodeOptions = {}): string[] {
    return to_id_rows(batch, 'batch').map((row) => this.decode(row, options))
  }

  /** The id of a token; the unknown token's where the vocabulary lacks it, `null` where there is none. */
  convert_tokens_to_ids(tokens: string): number | null
  convert_tokens_to_ids(tokens: readonly string[]): (number | null)[]
  convert_tokens_to_ids(tokens: string | readonly string[]): number | null | (number | null)[] {
    const convert = (token: string) => this.#pipeline.added.token_to_id(token) ?? this.unk_token_id
    return typeof tokens === 'string' ? convert(tokens) : tokens.map(convert)
  }

  /** The token of an id; `null` where there is none. */
  convert_ids_to_tokens(ids: number | bigint, options?: { skip_special_tokens?: boolean }): string | null
  convert_ids_to_tokens(ids: IdsLike, options?: { skip_special_tokens?: boolean }): (string | null)[]
  convert_ids_to_tokens(
    ids: number | bigint | IdsLike,
    options: { skip_special_tokens?: boolean } = {},
  ): string | null | (string | null)[] {
    const convert = (id: number) => this.#pipeline.added.id_to_token(id) ?? null
    if (typeof ids === 'number' || typeof ids === 'bigint') return convert(to_id_list([ids] as IdsLike, 'ids')[0]!)
    const skipped = new Set(options.skip_special_tokens ? this.all_special_ids : [])
    return to_id_list(ids, 'ids')
      .filter((id) => !skipped.has(id))
      .map(convert)
  }

  /** The text of tokens given as strings. */
  convert_tokens_to_string(tokens: readonly string[]): string {
    return this.#pipeline.join([...tokens])
  }

  /** Number of special tokens that a call adds. */
  num_special_tokens_to_add(pair = false): number {
    return this.#pipeline.post_processor.added(pair)
  }

  #plan(options: TokenizerOptions): Plan {
    return make_plan(options, this.model_max_length)
  }

  #rows(text: string | readonly string[], options: TokenizerOptions): Processed[] {
    const plan = this.#plan(options)
    const { post_processor } = this.#pipeline
    const side = check_side('truncation_side', this.truncation_side)
    const row = (first: unknown, second: unknown, name: string): Processed => {
      const pair =
        second === null || second === undefined ? null : this.#tokens(second, name.replace('text', 'text_pair'))
      const tokens = this.#tokens(first, name)
      return assemble(tokens, pair, plan, side, post_processor, options.add_special_tokens ?? true)
    }
    const pairs = options.text_pair
    if (!Array.isArray(text)) {
      if (Array.isArray(pairs))
        throw new InputError('text_pair is an array, but text is one text; both must be of one kind.')
      // An empty text_pair is none, for a single text only: as in the reference.
      return [row(text, pairs === '' ? null : pairs, 'text')]
    }
    if (text.length === 0) throw new InputError('text is an empty array; give at least one text.')
    if (pairs !== null && pairs !== undefined && (!Array.isArray(pairs) || pairs.length !== text.length)) {
      throw new InputError(`text_pair must be an array of ${text.length} texts, as text is; found ${text_kind(pairs)}.`)
    }
    return text.map((one, index) => row(one, pairs?.[index], `text[${index}]`))
  }

  #tokens(text: unknown, name: string): Token[] {
    if (typeof text !== 'string') throw new InputError(`${name} is ${text_kind(text)}; expected a string.`)
    return this.#pipeline.encode(text)
  }

  #role_id(role: Role): number | null {
    const token = this.#roles[role]
    return token ? (this.#pipeline.added.token_to_id(token.content) ?? null) : null
  }

  #pad_id(): number {
    const id = this.pad_token_id
    if (id === null)
      throw new OptionError('INVALID_OPTION', 'padding was asked for, but this tokenizer has no padding token.')
    return id
  }
}

/** T5's tokenizer, which Switch Transformers use. */
export class T5Tokenizer extends PreTrainedTokenizer {
  override _files(files: TokenizerFiles): TokenizerFiles {
    const filled = t5_config(files)
    return { ...filled, definition: t5_definition(files.definition, filled.config) }
  }

  override _default_roles(): Partial<Record<Role, string>> {
    return T5_ROLES
  }

  override _own_added_tokens(): [] {
    return []
  }
}

function to_files(definition: unknown, config: unknown): TokenizerFiles {
  if (is_files(definition)) return definition
  const as_field = (value: unknown, file: string) => (value instanceof Field ? value : new Field(value, file))
  return { definition: as_field(definition, 'tokenizer.json'), config: as_field(config, 'tokenizer_config.json') }
}

function is_files(value: unknown): value is TokenizerFiles {
  return typeof value === 'object' && value !== null && (value as TokenizerFiles).definition instanceof Field
}

function read_max_length(config: Field): number {
  const field: Field = config.get('model_max_length')
  if (field.absent) return 1e30
  if (typeof field.value !== 'number' || !(field.value >= 1)) field.fail('a positive number')
  return field.value
}

function check_side(name: string, side: unknown): 'left' | 'right' {
  if (side === 'left' || side === 'right') return side
  throw new OptionError('INVALID_OPTION', `${name} is ${JSON.stringify(side)}; expected 'left' or 'right'.`)
}

function text_kind(value: unknown): string {
  if (Array.isArray(value)) return `an array of ${value.length}`
  return value === null || typeof value !== 'object' ? String(value) : 'an object'
}

const first_row = (rows: number[][]): number[] => rows[0]!
const all_rows = (rows: number[][]): number[][] => rows

function to_tensor(rows: number[][]): Tensor<'int64'> {
  const length = rows[0]!.length
  const other = rows.find((row) => row.length !== length)
  if (other) {
    throw new InputError(
      `The rows have different lengths (${length} and ${other.length} tokens) and make no tensor. Give padding: true, and truncation: true where rows may be too long, or return_tensor: false.`,
    )
  }
  return new Tensor('int64', rows.flat(), [rows.length, length])
}

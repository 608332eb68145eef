/**
 * T5's tokenizer. Whatever tokenizer.json says of cutting and joining, the reference's `T5Tokenizer` takes only its
 * vocabulary, its charsmap and its post-processor and builds the rest anew; so does this.
 */

import { Field } from './field.js'
import type { ConfigFiles, Role } from './special_tokens.js'
import type { parse_spiece } from './spiece.js'

export const T5_ROLES: Partial<Record<Role, string>> = { eos_token: '</s>', unk_token: '<unk>', pad_token: '<pad>' }

/** The unknown token's id in every T5 vocabulary; the reference does not ask. */
const T5_UNKNOWN_ID = 2
const MAX_EXTRA_IDS = 100_000

const METASPACE = { type: 'Metaspace', replacement: '\u2581', prepend_scheme: 'always', split: true }

/** The definition that T5's tokenizer has, given a tokenizer.json. */
export function t5_definition(definition: Field, config: Field): Field {
  const vocab = definition.get('model').get('vocab').array()
  return build(
    definition.file,
    vocab,
    find_charsmap(definition.get('normalizer')),
    definition.get('post_processor'),
    definition.get('added_tokens'),
    config,
  )
}

/** The definition that T5's tokenizer has, given what a spiece.model says, whose vocabulary lacks the sentinels. */
export function t5_definition_of_spiece(model: ReturnType<typeof parse_spiece>, file: string, config: Field): Field {
  const { vocab, symbols, charsmap } = model
  const sentinels = extra_ids(config)
    .reverse()
    .map((content): [string, number] => [content, 0])
  const added = symbols.map(({ content, special }) => ({
    id: vocab.findIndex(([piece]) => piece === content),
    content,
    special,
    normalized: false,
  }))
  const none = new Field(undefined, file)
  return build(
    file,
    [...vocab, ...sentinels],
    charsmap.length > 0 ? charsmap : null,
    none,
    new Field(added, file),
    config,
  )
}

/** With T5's sentinels where the files name no further special tokens. */
export function t5_config(files: ConfigFiles): ConfigFiles {
  const names = ['extra_special_tokens', 'additional_special_tokens']
  const filled = [files.config, files.special_tokens_map].some((file) =>
    names.some((name) => {
      const value = file?.get(name).value
      return value !== undefined && value !== null && Object.keys(value as object).length > 0
    }),
  )
  if (filled) return files
  const { config } = files
  return { ...files, config: new Field({ ...config.object(), extra_special_tokens: extra_ids(config) }, config.file) }
}

/** `<extra_id_0>`, `<extra_id_1>`, …: as many as the config's `extra_ids`, 100 when it does not say. */
function extra_ids(config: Field): string[] {
  const count = config.get('extra_ids').absent ? 100 : config.get('extra_ids').integer(MAX_EXTRA_IDS)
  return Array.from({ length: count }, (_, index) => `<extra_id_${index}>`)
}

function build(
  file: string,
  vocab: unknown[],
  charsmap: unknown,
  post_processor: Field,
  added_tokens: Field,
  config: Field,
): Field {
  const definition = {
    model: { type: 'Unigram', vocab, unk_id: T5_UNKNOWN_ID, byte_fallback: false },
    normalizer: charsmap === null ? null : { type: 'Precompiled', precompiled_charsmap: charsmap },
    pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'WhitespaceSplit' }, METASPACE] },
    decoder: METASPACE,
    post_processor: post_processor.absent ? eos_template(vocab, config) : post_processor.value,
    added_tokens: added_tokens.value,
  }
  return new Field(definition, file)
}

/** The charsmap of a normaliser or of one in a sequence; `null` where there is none. */
function find_charsmap(normalizer: Field): unknown {
  if (normalizer.absent) return null
  const steps = normalizer.get('type').value === 'Sequence' ? normalizer.get('normalizers').fields() : [normalizer]
  return steps.find((step) => step.get('type').value === 'Precompiled')?.get('precompiled_charsmap').value ?? null
}

/** The end token after each sequence. */
function eos_template(vocab: unknown[], config: Field): object {
  const eos = config.get('eos_token')
  const content = eos.absent || typeof eos.value === 'string' ? eos.string('</s>') : eos.get('content').string()
  const id = vocab.map((entry) => (Array.isArray(entry) ? entry[0] : null)).lastIndexOf(content)
  if (id < 0) config.get('eos_token').fail('a token of the vocabulary', JSON.stringify(content))
  const sequence = (id: 'A' | 'B') => ({ Sequence: { id, type_id: 0 } })
  const end = { SpecialToken: { id: content, type_id: 0 } }
  return {
    type: 'TemplateProcessing',
    single: [sequence('A'), end],
    pair: [sequence('A'), end, sequence('B'), end],
    special_tokens: { [content]: { id: content, ids: [id], tokens: [content] } },
  }
}

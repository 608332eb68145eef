/**
 * From text to ids and back, as a tokenizer.json says.
 *
 * Why not a library: of those that run in browsers and in Node, `@huggingface/tokenizers` 0.2.0 (12 kB gzipped; that of
 * transformers.js) comes closest, but it approximates the charsmap by NFKC, joins unknown characters across words, cuts at
 * JavaScript's white space and knows tokens by their text only, so that ids differ from the reference's. What T5's
 * tokenizers would still use of it are its translated regular expressions, at 3 kB, and those are not exact either. The
 * WebAssembly builds of `tokenizers` have over a megabyte; `sentencepiece-js` reads no tokenizer.json and cuts into no
 * grapheme clusters. So the parts that these tokenizers consist of are written here, to the reference's rules and tested
 * against it; parts beyond them are refused by name.
 */

import { InputError } from '../errors.js'
import { AddedVocabulary } from './added_vocabulary.js'
import { create_decoder } from './decoders.js'
import type { Field } from './field.js'
import { create_normalizer } from './normalizers.js'
import { create_post_processor, type PostProcessor } from './post_processor.js'
import { create_pre_tokenizer } from './pre_tokenizers.js'
import { type Decoder, MAX_ID, type Model, type Normalizer, type PreTokenizer, type Token } from './types.js'
import { Unigram } from './unigram.js'

export class Pipeline {
  readonly model: Model
  readonly added: AddedVocabulary
  readonly post_processor: PostProcessor
  readonly #normalizer: Normalizer | null
  readonly #pre_tokenizer: PreTokenizer | null
  readonly #decoder: Decoder | null

  /** @param definition The content of a tokenizer.json. Throws a TokenizerError for what is malformed or not supported. */
  constructor(definition: Field) {
    const model = definition.get('model')
    // Old files leave the type out; a vocabulary of scored pieces can only be Unigram's.
    const type = model.get('type').string(Array.isArray(model.get('vocab').value) ? 'Unigram' : undefined)
    if (type !== 'Unigram') model.get('type').fail('a model that is supported (Unigram)')
    this.model = new Unigram(model)
    this.#normalizer = create_normalizer(definition.get('normalizer'))
    this.#pre_tokenizer = create_pre_tokenizer(definition.get('pre_tokenizer'))
    this.post_processor = create_post_processor(definition.get('post_processor'))
    this.#decoder = create_decoder(definition.get('decoder'))
    this.added = new AddedVocabulary(this.model, this.#normalizer)
  }

  /** The tokens of a text, without special tokens around them. */
  encode(text: string): Token[] {
    const tokens: Token[] = []
    // What is no character (half of a surrogate pair) has no UTF-8 form.
    for (const raw of this.added.split_raw(text.replace(/\p{Cs}/gu, '\ufffd'))) {
      if (raw.id !== null) {
        tokens.push({ id: raw.id, value: raw.text })
        continue
      }
      const normalized = this.#normalizer ? this.#normalizer(raw.text) : raw.text
      for (const section of this.added.split_normalized(normalized)) {
        if (section.id !== null) {
          tokens.push({ id: section.id, value: section.text })
          continue
        }
        const whole = { text: section.text, first: raw.start === 0 && section.start === 0 }
        for (const piece of this.#pre_tokenizer ? this.#pre_tokenizer(whole) : [whole]) {
          if (piece.text !== '') for (const token of this.model.tokenize(piece.text)) tokens.push(token)
        }
      }
    }
    return tokens
  }

  /** The text of ids. Ids that stand for nothing contribute nothing, as in the reference. */
  decode(ids: readonly number[], skip_special_tokens: boolean): string {
    const tokens: string[] = []
    for (const id of ids) {
      const token = this.visible(id, skip_special_tokens)
      if (token !== undefined) tokens.push(token)
    }
    return this.join(tokens)
  }

  /** The text of tokens. */
  join(tokens: string[]): string {
    return this.#decoder ? this.#decoder(tokens).join('') : tokens.join(' ')
  }

  /** What an id contributes to a text before decoding; `undefined` when nothing. Throws for what cannot be an id. */
  visible(id: number, skip_special_tokens: boolean): string | undefined {
    if (!Number.isInteger(id) || id < 0 || id > MAX_ID) {
      throw new InputError(`Cannot decode ${String(id)}: a token id is an integer from 0 to ${MAX_ID}.`, {
        details: { value: String(id) },
      })
    }
    const token = this.added.id_to_text(id)
    return token !== undefined && skip_special_tokens && this.added.is_special(token) ? undefined : token
  }
}

/** The library at work: a model that spells words out in sounds, and what its routers decided on the way. */

import { AutoConfig, AutoTokenizer, SwitchTransformersForConditionalGeneration } from 'switch-transformers'

const MODEL = './dist/assets/g2p/'

/**
 * Loads the model that ships with the library.
 *
 * @param capacity Tokens that an expert takes, or null for what the model was trained with.
 * @param on_progress Called with the percentage that is loaded.
 */
export async function load_pronouncer(capacity, on_progress) {
  const tokenizer = await AutoTokenizer.from_pretrained(MODEL)
  const config = (await AutoConfig.from_pretrained(MODEL)).to_dict()
  if (capacity !== null) config.expert_capacity = capacity
  const model = await SwitchTransformersForConditionalGeneration.from_pretrained(MODEL, {
    config,
    progress_callback: (event) => {
      if (event.status === 'progress' && event.file === 'model.safetensors') on_progress(event.progress)
    },
  })
  return new Pronouncer(tokenizer, model)
}

class Pronouncer {
  #tokenizer
  #model

  constructor(tokenizer, model) {
    this.#tokenizer = tokenizer
    this.#model = model
  }

  get experts() {
    return this.#model.config.num_experts
  }

  get capacity() {
    return this.#model.config.expert_capacity
  }

  /** The numbers of the sparse layers of each stack. */
  get sparse_layers() {
    const { num_layers, num_decoder_layers, encoder_sparse_step, decoder_sparse_step } = this.#model.config
    const sparse = (count, step) =>
      [...Array(count).keys()].filter((layer) => step > 0 && (step === 1 || layer % step === 1))
    return {
      encoder: sparse(num_layers, encoder_sparse_step),
      decoder: sparse(num_decoder_layers ?? num_layers, decoder_sparse_step),
    }
  }

  /**
   * First the encoder's tokens, all at once, then one token of the decoder after another, as they are chosen.
   *
   * Yields `{ stack: 'encoder', label, routes }` for what was read and `{ stack: 'decoder', label, next, text, routes }`
   * for each step: the decoder read `label` and wrote `next`. `routes` has the expert of each sparse layer, -1 where it
   * had no room.
   */
  async *pronounce(word, signal) {
    const inputs = this.#tokenizer(word)
    const start = this.#model.config.decoder_start_token_id
    const read = await this.#model({ ...inputs, decoder_input_ids: [[start]], output_routes: true })
    const layers = read.encoder_routes.map((tensor) => [...tensor.data])
    for (const [token, id] of [...inputs.input_ids.data].entries()) {
      yield { stack: 'encoder', label: this.#label(id), routes: layers.map((experts) => experts[token]) }
    }
    let label = 'start'
    const options = { tokenizer: this.#tokenizer, output_routes: true, signal }
    // What the encoder made of the word is used again, so it is not computed twice.
    for await (const step of this.#model.stream({ encoder_outputs: [read.encoder_last_hidden_state] }, options)) {
      const next = this.#label(step.token)
      yield { stack: 'decoder', label, next, text: step.text, routes: step.routes }
      label = next
    }
  }

  dispose() {
    return this.#model.dispose()
  }

  /** A token as people read it. */
  #label(id) {
    if (Number(id) === this.#tokenizer.eos_token_id) return 'end'
    return this.#tokenizer.decode([id], { skip_special_tokens: false })
  }
}

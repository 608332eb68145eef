/**
 * The arithmetic and the bytes that a piece of work is, counted from a config: what figures are put in proportion to.
 * Multiply-adds count as two; only matrix products are counted (projections, attention, feed-forward layers with the one
 * expert that a token goes to, routers, head), no padding, no dropped token left out.
 */

/** Parameters of one feed-forward layer, one expert where it is sparse. */
const feed_forward = (config) => (/^gated/.test(config.dense_act_fn ?? '') ? 3 : 2) * config.d_model * config.d_ff

const attention_weights = (config) => 4 * config.d_model * config.num_heads * config.d_kv

/** Layers that have a router, and those that have none. */
function layers(config, stack) {
  const count = stack === 'encoder' ? config.num_layers : (config.num_decoder_layers ?? config.num_layers)
  const step = stack === 'encoder' ? config.encoder_sparse_step : config.decoder_sparse_step
  const sparse = Array.from({ length: count }, (_, i) => step > 0 && (step === 1 || i % step === 1)).filter(
    Boolean,
  ).length
  return { count, sparse }
}

/** FLOP of encoding `rows` rows of `tokens` tokens. */
export function encode_flop(config, rows, tokens) {
  const { count, sparse } = layers(config, 'encoder')
  const weights =
    count * (attention_weights(config) + feed_forward(config)) + sparse * config.d_model * config.num_experts
  const attention = count * 2 * tokens * tokens * config.num_heads * config.d_kv
  return 2 * rows * (tokens * weights + attention)
}

/** How many of a layer's experts `tokens` tokens hit, were each as likely. */
export function experts_hit(config, tokens) {
  return config.num_experts * (1 - (1 - 1 / config.num_experts) ** tokens)
}

/**
 * Bytes of weights that one decoding step has to read when each active weight is read once: the decoder's layers, routers,
 * `experts` experts of each sparse layer, the head. `weight_bytes` is that of an element. Caches are not counted.
 */
export function decode_bytes(config, weight_bytes, experts) {
  const { count, sparse } = layers(config, 'decoder')
  // Of cross-attention a step reads q and o; k and v are computed once per input.
  const attention = count * attention_weights(config) * 1.5
  const dense = (count - sparse) * feed_forward(config)
  const banks = sparse * experts * feed_forward(config)
  const head = config.d_model * config.vocab_size
  const routers = sparse * config.d_model * config.num_experts
  return (attention + dense + banks + head) * weight_bytes + routers * 4
}

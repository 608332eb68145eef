/** How many parameters a config's model has. */

/** The fields of a config that decide how many parameters its model has. */
export interface ParameterDimensions {
  vocab_size: number
  d_model: number
  d_kv: number
  d_ff: number
  num_heads: number
  num_layers: number
  num_decoder_layers?: number | null
  num_experts: number
  encoder_sparse_step: number
  decoder_sparse_step: number
  relative_attention_num_buckets: number
  router_bias?: boolean
  dense_act_fn?: string
  tie_word_embeddings?: boolean
}

/** How many parameters a model of this config has. Exact up to 2^53, and infinite rather than wrong far above. */
export function count_parameters(config: ParameterDimensions): number {
  const { d_model, d_ff, d_kv, num_heads, num_experts, vocab_size } = config
  const attention = 4 * d_model * d_kv * num_heads
  const matrices = config.dense_act_fn?.startsWith('gated-') ? 3 : 2
  const dense = matrices * d_model * d_ff
  const router = num_experts * d_model + (config.router_bias ? num_experts : 0)
  const sparse = router + num_experts * dense
  const stack_of = (layers: number, step: number, attentions: number) => {
    const sparse_layers = count_sparse(layers, step)
    const norms = (attentions + 1) * d_model
    const outside_blocks = config.relative_attention_num_buckets * num_heads + d_model
    return (
      layers * (attentions * attention + norms) +
      sparse_layers * sparse +
      (layers - sparse_layers) * dense +
      outside_blocks
    )
  }
  return (
    // Untied: the shared embedding, each stack's own, and the head.
    vocab_size * d_model * (config.tie_word_embeddings === false ? 4 : 1) +
    stack_of(config.num_layers, config.encoder_sparse_step, 1) +
    stack_of(config.num_decoder_layers ?? config.num_layers, config.decoder_sparse_step, 2)
  )
}

/** Layer i is sparse when the step is 1, or when i % step is 1; a step of 0 makes none sparse. */
function count_sparse(layers: number, step: number): number {
  if (step === 1) return layers
  return step > 1 && layers > 1 ? Math.ceil((layers - 1) / step) : 0
}

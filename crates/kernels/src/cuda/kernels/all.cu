// Every kernel, as one module.
#include "product.cu"
#include "route.cu"
#include "permute.cu"
#include "attention.cu"
#include "attention_backward.cu"
#include "pointwise.cu"
#include "training.cu"
#include "sample.cu"

#define SWITCH_KERNELS(ENTRY)                                                                                         \
    ENTRY(product_exact_f32) ENTRY(product_exact_f16) ENTRY(product_exact_bf16) ENTRY(product_exact_int8)             \
    ENTRY(product_exact_int4) ENTRY(product_tf32_f32) ENTRY(product_bf16_f32) ENTRY(product_bf16_bf16)                \
    ENTRY(product_bf16_int8) ENTRY(product_bf16_int4) ENTRY(product_f16_f16) ENTRY(product_few_f32)                   \
    ENTRY(product_split_bf16)                                  \
    ENTRY(product_split_f16) ENTRY(product_few_f16) ENTRY(product_few_bf16) ENTRY(product_few_int8) ENTRY(product_few_int4)                    \
    ENTRY(route_choose) ENTRY(route_slots) ENTRY(route_slots_by_weight) ENTRY(route_backward)                         \
    ENTRY(permute_count) ENTRY(permute_scan) ENTRY(permute_place)                                                     \
    ENTRY(attention_forward) ENTRY(attention_one)                                                                     \
    ENTRY(attention_backward_q) ENTRY(attention_backward_kv) ENTRY(attention_backward_bias)                           \
    ENTRY(rms_norm) ENTRY(rms_norm_backward) ENTRY(rms_norm_weight_backward) ENTRY(row_scales) ENTRY(sum_rows)        \
    ENTRY(add) ENTRY(scale) ENTRY(add_row) ENTRY(round_to) ENTRY(activation_backward)                                 \
    ENTRY(embedding_f32) ENTRY(embedding_f16) ENTRY(embedding_bf16) ENTRY(embedding_backward)                         \
    ENTRY(gather_rows) ENTRY(row_dots) ENTRY(scatter_rows) ENTRY(argmax_rows) ENTRY(cross_entropy)              \
    ENTRY(dropout) ENTRY(jitter) ENTRY(copy_columns) ENTRY(activate_rows) ENTRY(activate_rows_backward)               \
    ENTRY(gate_backward) ENTRY(token_loss) ENTRY(sample_rows)

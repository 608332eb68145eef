// The gradients of attention.cu: weights are computed again from the kept logarithm of their denominator. No atomics: a
// warp per query sums over its keys, a warp per key over its queries, a warp per distance over both, always in order.
// Spans of keys do not overlap (training has a row of keys per row of queries).
#include "dropout.cuh"

/// As `AttentionBackward` of attention.rs.
struct AttentionBackward {
    const float *q, *k, *v, *out, *lse, *out_grad;
    float *q_grad, *k_grad, *v_grad;
    /// [rows, heads, span], to be summed over rows; null: no bias.
    float *bias_grad;
    const Span *spans;
    const uint8_t *masks;
    const float *bias;
    long long kv_stride, q_stride;
    int heads, head_dim, span, zero;
    Dropout dropout;
};

/// One pair's weight, after dropout, and the gradient of its score. `delta`: Σ out · out_grad of the query and head;
/// `number`: of the head's first probability.
DEVICE void pair(const AttentionBackward &p, const Span &s, int head, unsigned long long number, int query, int key,
                 float delta, float &weight, float &score_grad) {
    float factor = kept_pair(p.dropout, number, s, query, key);
    long long q_at = (s.q_start + query) * p.q_stride + head * p.head_dim;
    long long k_at = (s.kv_start + key) * p.kv_stride + head * p.head_dim;
    float lse = p.lse[(long long)(s.q_start + query) * p.heads + head];
    float score = 0.0f, value = 0.0f;
    for (int c = 0; c < p.head_dim; c++) {
        score = fmaf(p.q[q_at + c], p.k[k_at + c], score);
        value = fmaf(p.out_grad[q_at + c], p.v[k_at + c], value);
    }
    bool allowed = key < visible_keys(s, query) && (s.mask_start < 0 || p.masks[s.mask_start + key] != 0);
    // A query that saw no key: every weight is the same. As in the reference, where a large negative number is added to
    // scores, their gradients are what the softmax gives.
    if (lse == INFINITY) {
        weight = 1.0f / float(s.kv_len);
    } else if (allowed) {
        weight = expf(score + bias_at(p.bias, p.span, p.zero, head, s, query, key) - lse);
    } else {
        weight = score_grad = 0.0f;
        return;
    }
    score_grad = weight * (value * factor - delta);
    weight *= factor;
}

DEVICE float delta_of(const AttentionBackward &p, const Span &s, int head, int query) {
    long long at = (s.q_start + query) * p.q_stride + head * p.head_dim;
    float sum = 0.0f;
    for (int c = 0; c < p.head_dim; c++) sum = fmaf(p.out[at + c], p.out_grad[at + c], sum);
    return sum;
}

/// Adds Σ_j weight_j · rows_j for the lanes' 32 pairs to the lane's features.
DEVICE void add_rows(float weight, const float *rows, long long stride, int count, int dim, float (&sums)[MOST_FEATURES]) {
    for (int j = 0; j < WARP; j++) {
        float w = warp_read(weight, j);
        if (j >= count) continue;
#pragma unroll
        for (int c = 0; c < MOST_FEATURES; c++) {
            int at = lane_index() + WARP * c;
            if (at < dim) sums[c] = fmaf(w, rows[j * stride + at], sums[c]);
        }
    }
}

/// Grid: rows, heads, ceil(longest queries / warps).
KERNEL attention_backward_q(AttentionBackward p) {
    Span s = p.spans[int(blockIdx.x)];
    int head = int(blockIdx.y), query = int(blockIdx.z) * warp_count() + warp_index(), dim = p.head_dim;
    if (query >= s.q_len) return;
    unsigned long long number = first_number(p.dropout, p.spans, int(blockIdx.x), p.heads, head);
    float delta = delta_of(p, s, head, query), sums[MOST_FEATURES] = {};
    bool saw = p.lse[(long long)(s.q_start + query) * p.heads + head] != INFINITY;
    int reach = saw ? visible_keys(s, query) : s.kv_len;
    for (int first = 0; first < reach; first += WARP) {
        int key = first + lane_index(), count = reach - first < WARP ? reach - first : WARP;
        float weight = 0.0f, grad = 0.0f;
        if (key < reach) pair(p, s, head, number, query, key, delta, weight, grad);
        add_rows(grad, p.k + (s.kv_start + first) * p.kv_stride + head * dim, p.kv_stride, count, dim, sums);
    }
    float *to = p.q_grad + (s.q_start + query) * p.q_stride + head * dim;
    for (int c = 0; c < MOST_FEATURES; c++) {
        if (lane_index() + WARP * c < dim) to[lane_index() + WARP * c] = sums[c];
    }
}

/// Grid: rows, heads, ceil(longest keys / warps).
KERNEL attention_backward_kv(AttentionBackward p) {
    Span s = p.spans[int(blockIdx.x)];
    int head = int(blockIdx.y), key = int(blockIdx.z) * warp_count() + warp_index(), dim = p.head_dim;
    if (key >= s.kv_len) return;
    unsigned long long number = first_number(p.dropout, p.spans, int(blockIdx.x), p.heads, head);
    float k_sums[MOST_FEATURES] = {}, v_sums[MOST_FEATURES] = {};
    for (int first = 0; first < s.q_len; first += WARP) {
        int query = first + lane_index(), count = s.q_len - first < WARP ? s.q_len - first : WARP;
        float weight = 0.0f, grad = 0.0f;
        if (query < s.q_len) pair(p, s, head, number, query, key, delta_of(p, s, head, query), weight, grad);
        long long at = (s.q_start + first) * p.q_stride + head * dim;
        add_rows(grad, p.q + at, p.q_stride, count, dim, k_sums);
        add_rows(weight, p.out_grad + at, p.q_stride, count, dim, v_sums);
    }
    long long to = (s.kv_start + key) * p.kv_stride + head * dim;
    for (int c = 0; c < MOST_FEATURES; c++) {
        if (lane_index() + WARP * c >= dim) continue;
        p.k_grad[to + lane_index() + WARP * c] = k_sums[c];
        p.v_grad[to + lane_index() + WARP * c] = v_sums[c];
    }
}

/// Grid: rows, heads, ceil(span / warps).
KERNEL attention_backward_bias(AttentionBackward p) {
    Span s = p.spans[int(blockIdx.x)];
    int head = int(blockIdx.y), at = int(blockIdx.z) * warp_count() + warp_index();
    if (at >= p.span) return;
    // Key = query + shift.
    int shift = at - p.zero + s.position;
    unsigned long long number = first_number(p.dropout, p.spans, int(blockIdx.x), p.heads, head);
    float sum = 0.0f;
    for (int query = lane_index(); query < s.q_len; query += WARP) {
        int key = query + shift;
        if (key < 0 || key >= s.kv_len) continue;
        float weight, grad;
        pair(p, s, head, number, query, key, delta_of(p, s, head, query), weight, grad);
        sum += grad;
    }
    sum = warp_sum(sum);
    if (lane_index() == 0) p.bias_grad[((long long)blockIdx.x * p.heads + head) * p.span + at] = sum;
}

// T5's attention: unscaled scores plus bias by distance, softmax, values; one pass over the keys (the running maximum and
// sum of Milakov and Gimelshein, as in FlashAttention), no score matrix. Rows are ragged: each has its spans of queries and
// keys, its mask and what it may see. Rules as in crates/kernels/src/attention: a query that sees no key weighs every key
// alike; a row without keys gives zeros.
//
// Tried: nothing has been timed yet. Float32 throughout, 32 queries a block, 8 a warp; a lane is a key for the scores and
// a feature for the values.
#include "dropout.cuh"

/// As `Span` of attention.rs.
struct Span {
    int q_start, q_len, kv_start, kv_len;
    /// Where its mask begins in `masks`; -1: none.
    int mask_start;
    /// Query i sees keys 0..=causal + i; -1: all.
    int causal;
    /// Position of the first query, for the bias.
    int position;
    int reserved;
};
/// As `Attention` of attention.rs.
struct Attention {
    const float *q, *k, *v;
    float *out;
    /// Per query and head the logarithm of the softmax's denominator, for the backward pass; null: not wanted.
    float *lse;
    const Span *spans;
    const uint8_t *masks;
    /// [heads, span], distance 0 at `zero`; null: none.
    const float *bias;
    /// Elements from one token's vector to the next, of keys and values and of queries and outputs.
    long long kv_stride, q_stride;
    int heads, head_dim, span, zero;
    /// Of probabilities, which are numbered [rows][heads, q_len, kv_len] (training only).
    Dropout dropout;
    /// Blocks per row.
    int tiles;
};

constexpr int QUERIES = 8, ATTENTION_WARPS = 4, TILE_QUERIES = QUERIES * ATTENTION_WARPS, KEYS = WARP;
/// Features per lane.
constexpr int MOST_FEATURES = 4;

DEVICE int visible_keys(const Span &s, int query) {
    if (s.causal < 0) return s.kv_len;
    int seen = s.causal + query + 1;
    return seen < s.kv_len ? seen : s.kv_len;
}
DEVICE float bias_at(const float *bias, int span, int zero, int head, const Span &s, int query, int key) {
    return bias == nullptr ? 0.0f : bias[(long long)head * span + zero + key - (s.position + query)];
}

/// The number of a row and head's first probability.
DEVICE unsigned long long first_number(const Dropout &d, const Span *spans, int row, int heads, int head) {
    if (d.scale == 1.0f) return 0;
    unsigned long long number = 0;
    for (int r = 0; r < row; r++) number += (unsigned long long)spans[r].q_len * (unsigned long long)spans[r].kv_len;
    number *= (unsigned long long)heads;
    return number + (unsigned long long)head * (unsigned long long)spans[row].q_len * (unsigned long long)spans[row].kv_len;
}
DEVICE float kept_pair(const Dropout &d, unsigned long long first, const Span &s, int query, int key) {
    return kept(d, first + (unsigned long long)query * (unsigned long long)s.kv_len + (unsigned long long)key);
}

/// Grid: rows · tiles, heads. Shared floats: TILE_QUERIES · (head_dim + KEYS) + KEYS · (head_dim + 1).
KERNEL attention_forward(Attention p) {
    SHARED(float, shared);
    Span s = p.spans[int(blockIdx.x) / p.tiles];
    int head = int(blockIdx.y), dim = p.head_dim, lane = lane_index();
    int query0 = int(blockIdx.x) % p.tiles * TILE_QUERIES;
    if (query0 >= s.q_len) return;
    float *queries = shared, *tile = queries + TILE_QUERIES * dim;
    float *weights = tile + KEYS * (dim + 1) + warp_index() * QUERIES * KEYS;
    const float *q = p.q + head * dim, *k = p.k + head * dim, *v = p.v + head * dim;
    for (int i = int(threadIdx.x); i < TILE_QUERIES * dim; i += int(blockDim.x)) {
        int query = query0 + i / dim;
        queries[i] = query < s.q_len ? q[(s.q_start + query) * p.q_stride + i % dim] : 0.0f;
    }
    int mine = query0 + warp_index() * QUERIES;
    float largest[QUERIES], sum[QUERIES], out[QUERIES][MOST_FEATURES];
    bool seen[QUERIES];
    unsigned long long number = first_number(p.dropout, p.spans, int(blockIdx.x) / p.tiles, p.heads, head);
#pragma unroll
    for (int i = 0; i < QUERIES; i++) {
        largest[i] = -INFINITY, sum[i] = 0.0f, seen[i] = false;
#pragma unroll
        for (int c = 0; c < MOST_FEATURES; c++) out[i][c] = 0.0f;
    }
    int last = query0 + TILE_QUERIES < s.q_len ? query0 + TILE_QUERIES : s.q_len;
    int reach = visible_keys(s, last - 1);
    for (int key0 = 0; key0 < reach; key0 += KEYS) {
        // Keys, then values in their place.
        auto fill = [&](const float *from) {
            block_sync();
            for (int i = int(threadIdx.x); i < KEYS * dim; i += int(blockDim.x)) {
                int key = key0 + i / dim, c = i % dim;
                tile[(i / dim) * (dim + 1) + c] = key < s.kv_len ? from[(s.kv_start + key) * p.kv_stride + c] : 0.0f;
            }
            block_sync();
        };
        fill(k);
        int key = key0 + lane;
        bool open = key < s.kv_len && (s.mask_start < 0 || p.masks[s.mask_start + key] != 0);
        float scores[QUERIES] = {};
        const float *mine_queries = queries + warp_index() * QUERIES * dim, *my_key = tile + lane * (dim + 1);
        for (int c = 0; c < dim; c++) {
            float x = my_key[c];
#pragma unroll
            for (int i = 0; i < QUERIES; i++) scores[i] = fmaf(mine_queries[i * dim + c], x, scores[i]);
        }
#pragma unroll
        for (int i = 0; i < QUERIES; i++) {
            int query = mine + i;
            bool allowed = open && query < s.q_len && key < visible_keys(s, query);
            float score = allowed ? scores[i] + bias_at(p.bias, p.span, p.zero, head, s, query, key) : -INFINITY;
            float top = warp_max(score);
            seen[i] = seen[i] || warp_max(allowed ? 1.0f : 0.0f) > 0.0f;
            float next = fmaxf(largest[i], top);
            // Nothing finite yet: exp(-inf - -inf) would be NaN. A NaN score stays one.
            float weight = next == -INFINITY && !(score != score) ? 0.0f : expf(score - next);
            float shrink = largest[i] == -INFINITY ? 0.0f : expf(largest[i] - next);
            sum[i] = sum[i] * shrink + warp_sum(weight);
            largest[i] = next;
#pragma unroll
            for (int c = 0; c < MOST_FEATURES; c++) out[i][c] *= shrink;
            weights[i * KEYS + lane] = weight * kept_pair(p.dropout, number, s, query, key);
        }
        fill(v);
        int count = s.kv_len - key0 < KEYS ? s.kv_len - key0 : KEYS;
        for (int j = 0; j < count; j++) {
            float x[MOST_FEATURES];
#pragma unroll
            for (int c = 0; c < MOST_FEATURES; c++) x[c] = lane + WARP * c < dim ? tile[j * (dim + 1) + lane + WARP * c] : 0.0f;
#pragma unroll
            for (int i = 0; i < QUERIES; i++) {
                float weight = weights[i * KEYS + j];
#pragma unroll
                for (int c = 0; c < MOST_FEATURES; c++) out[i][c] = fmaf(weight, x[c], out[i][c]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < QUERIES; i++) {
        int query = mine + i;
        if (query >= s.q_len) continue;
        float *to = p.out + (s.q_start + query) * p.q_stride + head * dim;
        float scale = 1.0f / sum[i];
        if (!seen[i]) {
            // The mean of all values, masked and later ones too; 0 without keys.
            scale = s.kv_len > 0 ? 1.0f / float(s.kv_len) : 0.0f;
#pragma unroll
            for (int c = 0; c < MOST_FEATURES; c++) {
                out[i][c] = 0.0f;
                if (lane + WARP * c >= dim) continue;
                for (int j = 0; j < s.kv_len; j++) {
                    float value = v[(s.kv_start + j) * p.kv_stride + lane + WARP * c];
                    out[i][c] += value * kept_pair(p.dropout, number, s, query, j);
                }
            }
        }
#pragma unroll
        for (int c = 0; c < MOST_FEATURES; c++) {
            if (lane + WARP * c < dim) to[lane + WARP * c] = out[i][c] * scale;
        }
        if (p.lse != nullptr && lane == 0) {
            p.lse[(long long)(s.q_start + query) * p.heads + head] = seen[i] ? largest[i] + logf(sum[i]) : INFINITY;
        }
    }
}

/// One query a row, as in decoding: a block per row and head, its scores in shared memory. Shared floats: keys + head_dim
/// + warps. Blocks of at least head_dim threads.
KERNEL attention_one(Attention p, int most_keys) {
    SHARED(float, scores);
    Span s = p.spans[int(blockIdx.x)];
    int head = int(blockIdx.y), dim = p.head_dim, lane = lane_index();
    float *query = scores + most_keys, *scratch = query + dim;
    const float *k = p.k + head * dim, *v = p.v + head * dim;
    for (int c = int(threadIdx.x); c < dim; c += int(blockDim.x)) query[c] = p.q[s.q_start * p.q_stride + head * dim + c];
    block_sync();
    int reach = visible_keys(s, 0);
    float largest = -INFINITY, count = 0.0f;
    // Eight lanes a key, four keys a warp at once: their loads are 128 bytes each.
    int part = lane % 8;
    for (int first = warp_index() * 4; first < reach; first += warp_count() * 4) {
        int key = first + lane / 8;
        float score = 0.0f;
        if (key < reach) {
            const float *from = k + (s.kv_start + key) * p.kv_stride;
            for (int c = part; c < dim; c += 8) score = fmaf(query[c], from[c], score);
        }
        for (int mask = 4; mask > 0; mask /= 2) score += warp_xor(score, mask);
        if (key < reach && part == 0) {
            bool open = s.mask_start < 0 || p.masks[s.mask_start + key] != 0;
            if (open) score += bias_at(p.bias, p.span, p.zero, head, s, 0, key);
            scores[key] = open ? score : -INFINITY;
            if (open) count = 1.0f, largest = fmaxf(largest, score);
        }
    }
    count = block_sum(count, scratch);
    block_sync();
    largest = warp_max(largest);
    if (lane == 0) scratch[warp_index()] = largest;
    block_sync();
    for (int w = 0; w < warp_count(); w++) largest = fmaxf(largest, scratch[w]);
    float *to = p.out + s.q_start * p.q_stride + head * dim;
    bool seen = count > 0.0f;
    float sum = 0.0f;
    for (int key = int(threadIdx.x); key < reach; key += int(blockDim.x)) {
        float weight = seen ? expf(scores[key] - largest) : 0.0f;
        scores[key] = weight;
        sum += weight;
    }
    sum = block_sum(sum, scratch);
    int used = seen ? reach : s.kv_len;
    float scale = seen ? 1.0f / sum : s.kv_len > 0 ? 1.0f / float(s.kv_len) : 0.0f;
    for (int c = int(threadIdx.x); c < dim; c += int(blockDim.x)) {
        float out = 0.0f;
        for (int key = 0; key < used; key++) {
            float weight = seen ? scores[key] : 1.0f;
            out = fmaf(weight, v[(s.kv_start + key) * p.kv_stride + c], out);
        }
        to[c] = out * scale;
    }
}

// Norms, sums, rows of tables: what is bound by memory alone.
#include "activation.cuh"

/// T5's layer norm of x (plus, with `residual`, the sum that `sum_out` receives): out = x · rsqrt(mean(x²) + eps) · weight.
/// A block per row of d. Shared: a float per warp.
KERNEL rms_norm(const float *x, const float *residual, float *sum_out, const float *weight, float eps, int d,
                float *out) {
    SHARED(float, scratch);
    long long row = (long long)blockIdx.x * d;
    float squares = 0.0f;
    for (int c = int(threadIdx.x); c < d; c += int(blockDim.x)) {
        float value = x[row + c];
        if (residual != nullptr) {
            value += residual[row + c];
            sum_out[row + c] = value;
        }
        squares = fmaf(value, value, squares);
    }
    float scale = 1.0f / sqrtf(block_sum(squares, scratch) / float(d) + eps);
    const float *from = residual != nullptr ? sum_out : x;
    for (int c = int(threadIdx.x); c < d; c += int(blockDim.x)) out[row + c] = weight[c] * (from[row + c] * scale);
}

/// The gradient of x. A block per row. Shared: a float per warp.
KERNEL rms_norm_backward(const float *x, const float *weight, const float *out_grad, float eps, int d, float *x_grad) {
    SHARED(float, scratch);
    long long row = (long long)blockIdx.x * d;
    float squares = 0.0f, dots = 0.0f;
    for (int c = int(threadIdx.x); c < d; c += int(blockDim.x)) {
        float value = x[row + c];
        squares = fmaf(value, value, squares);
        dots = fmaf(out_grad[row + c] * weight[c], value, dots);
    }
    float scale = 1.0f / sqrtf(block_sum(squares, scratch) / float(d) + eps);
    float pull = block_sum(dots, scratch) * scale * scale * scale / float(d);
    for (int c = int(threadIdx.x); c < d; c += int(blockDim.x)) {
        x_grad[row + c] = out_grad[row + c] * weight[c] * scale - x[row + c] * pull;
    }
}

/// The gradient of the weight, summed over rows `blockIdx.y * rows_each ..`: `partial` [gridDim.y, d], which sum_rows sums.
/// `scales` [rows] are rsqrt(mean(x²) + eps), by row_scales.
KERNEL rms_norm_weight_backward(const float *x, const float *scales, const float *out_grad, int rows, int rows_each, int d,
                                float *partial) {
    int c = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (c >= d) return;
    int begin = int(blockIdx.y) * rows_each, end = begin + rows_each < rows ? begin + rows_each : rows;
    float sum = 0.0f;
    for (int r = begin; r < end; r++) sum = fmaf(out_grad[(long long)r * d + c], x[(long long)r * d + c] * scales[r], sum);
    partial[(long long)blockIdx.y * d + c] = sum;
}
/// A block per row. Shared: a float per warp.
KERNEL row_scales(const float *x, float eps, int d, float *scales) {
    SHARED(float, scratch);
    float squares = 0.0f;
    for (int c = int(threadIdx.x); c < d; c += int(blockDim.x)) {
        float value = x[(long long)blockIdx.x * d + c];
        squares = fmaf(value, value, squares);
    }
    float scale = 1.0f / sqrtf(block_sum(squares, scratch) / float(d) + eps);
    if (threadIdx.x == 0) scales[blockIdx.x] = scale;
}
/// out[c] = Σ x[r, c], in order.
KERNEL sum_rows(const float *x, int rows, int d, float *out) {
    int c = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (c >= d) return;
    float sum = 0.0f;
    for (int r = 0; r < rows; r++) sum += x[(long long)r * d + c];
    out[c] = sum;
}

KERNEL add(const float *a, const float *b, long long n, float *out) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = a[i] + b[i];
}
KERNEL scale(const float *x, float factor, long long n, float *out) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = x[i] * factor;
}
/// out[r, c] = x[r, c] + bias[c]
KERNEL add_row(const float *x, const float *bias, long long n, int d, float *out) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = x[i] + bias[i % d];
}
/// To the router's type and back (see route.cu for the numbers of types).
KERNEL round_to(const float *x, int rounding, long long n, float *out) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    out[i] = rounding == 1 ? f16_to_f32(f32_to_f16(x[i])) : rounding == 2 ? widen(bf16{f32_to_bf16(x[i])}) : x[i];
}
/// The gradients before the activation and of the gate: pre_grad = g · gate · act'(pre), gate_grad = g · act(pre); without
/// a gate it counts as 1.
KERNEL activation_backward(const float *pre, const float *gate, const float *grad, int act, long long n, float *pre_grad,
                           float *gate_grad) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float g = grad[i];
    pre_grad[i] = g * (gate != nullptr ? gate[i] : 1.0f) * activation_slope(act, pre[i]);
    if (gate != nullptr) gate_grad[i] = g * activate(act, pre[i]);
}

template <class T> DEVICE void embed(const T *table, const unsigned *ids, int d, float *out) {
    const T *from = table + (long long)ids[blockIdx.x] * d;
    for (int c = int(threadIdx.x); c < d; c += int(blockDim.x)) out[(long long)blockIdx.x * d + c] = widen(from[c]);
}
/// Row ids[r] of the table. A block per row; ids were checked.
KERNEL embedding_f32(const float *table, const unsigned *ids, int d, float *out) { embed(table, ids, d, out); }
KERNEL embedding_f16(const f16 *table, const unsigned *ids, int d, float *out) { embed(table, ids, d, out); }
KERNEL embedding_bf16(const bf16 *table, const unsigned *ids, int d, float *out) { embed(table, ids, d, out); }

/// The gradient of a table: the first token of an id sums for all of that id, in order; adds to `table_grad`. A block per
/// token. Shared: an int.
KERNEL embedding_backward(const unsigned *ids, const float *out_grad, int tokens, int d, float *table_grad) {
    SHARED(int, earlier);
    int token = int(blockIdx.x);
    unsigned id = ids[token];
    if (threadIdx.x == 0) *earlier = 0;
    block_sync();
    for (int t = int(threadIdx.x); t < token; t += int(blockDim.x)) {
        if (ids[t] == id) shared_add(earlier, 1);
    }
    block_sync();
    if (*earlier != 0) return;
    for (int c = int(threadIdx.x); c < d; c += int(blockDim.x)) {
        float sum = 0.0f;
        for (int t = token; t < tokens; t++) {
            if (ids[t] == id) sum += out_grad[(long long)t * d + c];
        }
        table_grad[(long long)id * d + c] += sum;
    }
}

/// Rows of x in the order of a list of `*count` places, each times `weight` by row of x where that is given.
KERNEL gather_rows(const float *x, const int *order, const int *count, const float *weight, int d, float *out) {
    int place = int(blockIdx.x);
    if (place >= *count) return;
    int row = order[place];
    float factor = weight != nullptr ? weight[row] : 1.0f;
    for (int c = int(threadIdx.x); c < d; c += int(blockDim.x)) {
        out[(long long)place * d + c] = x[(long long)row * d + c] * factor;
    }
}
/// out[order[place]] = x[order[place]] · y[place]: the gradient of a token's router weight. A block per place. Shared: a
/// float per warp.
KERNEL row_dots(const float *x, const float *y, const int *order, const int *count, int d, float *out) {
    SHARED(float, scratch);
    int place = int(blockIdx.x);
    if (place >= *count) return;
    int row = order[place];
    float dots = 0.0f;
    for (int c = int(threadIdx.x); c < d; c += int(blockDim.x)) {
        dots = fmaf(x[(long long)row * d + c], y[(long long)place * d + c], dots);
    }
    dots = block_sum(dots, scratch);
    if (threadIdx.x == 0) out[row] = dots;
}

/// New keys or values [tokens, width] to their places: row t of `x` to row `to[t]` of a cache.
KERNEL scatter_rows(const float *x, const int *to, int width, float *cache) {
    for (int c = int(threadIdx.x); c < width; c += int(blockDim.x)) {
        cache[(long long)to[blockIdx.x] * width + c] = x[(long long)blockIdx.x * width + c];
    }
}

/// The index of the largest of each row [rows, n], the lowest among equals; 0 when all are minus infinity. A block per row.
/// Shared: a float and an int per warp.
KERNEL argmax_rows(const float *x, int n, unsigned *out) {
    SHARED(float, tops);
    int *places = reinterpret_cast<int *>(tops + warp_count());
    const float *row = x + (long long)blockIdx.x * n;
    float top = -INFINITY;
    int place = n;
    for (int i = int(threadIdx.x); i < n; i += int(blockDim.x)) {
        if (row[i] > top) top = row[i], place = i;
    }
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        float other = warp_xor(top, mask);
        int there = warp_xor(place, mask);
        if (other > top || (other == top && there < place)) top = other, place = there;
    }
    if (lane_index() == 0) tops[warp_index()] = top, places[warp_index()] = place;
    block_sync();
    if (threadIdx.x != 0) return;
    for (int w = 1; w < warp_count(); w++) {
        if (tops[w] > top || (tops[w] == top && places[w] < place)) top = tops[w], place = places[w];
    }
    out[blockIdx.x] = place < n ? unsigned(place) : 0u;
}

/// Per token the log-probability of its label under logits [tokens, classes] and, with `logits_grad`, the gradient of
/// Σ scale · -log p: scale · (p - δ). A label below 0 takes no part: 0, and no gradient. A block per token. Shared: a float
/// per warp.
KERNEL cross_entropy(const float *logits, const int *labels, int classes, float scale, float *log_probs,
                     float *logits_grad) {
    SHARED(float, scratch);
    const float *row = logits + (long long)blockIdx.x * classes;
    float *grad = logits_grad != nullptr ? logits_grad + (long long)blockIdx.x * classes : nullptr;
    int label = labels[blockIdx.x];
    if (label < 0) {
        if (threadIdx.x == 0) log_probs[blockIdx.x] = 0.0f;
        for (int i = int(threadIdx.x); grad != nullptr && i < classes; i += int(blockDim.x)) grad[i] = 0.0f;
        return;
    }
    float largest = -INFINITY;
    for (int i = int(threadIdx.x); i < classes; i += int(blockDim.x)) largest = fmaxf(largest, row[i]);
    largest = warp_max(largest);
    if (lane_index() == 0) scratch[warp_index()] = largest;
    block_sync();
    for (int w = 0; w < warp_count(); w++) largest = fmaxf(largest, scratch[w]);
    float sum = 0.0f;
    for (int i = int(threadIdx.x); i < classes; i += int(blockDim.x)) sum += expf(row[i] - largest);
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) log_probs[blockIdx.x] = row[label] - largest - logf(sum);
    for (int i = int(threadIdx.x); grad != nullptr && i < classes; i += int(blockDim.x)) {
        grad[i] = scale * (expf(row[i] - largest) / sum - (i == label ? 1.0f : 0.0f));
    }
}

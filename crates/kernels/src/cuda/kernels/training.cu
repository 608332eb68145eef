// What a training step needs beside the products, attention and norms of the other files: noise, hidden states with their
// way back, the loss over the vocabulary.
#include "activation.cuh"
#include "dropout.cuh"

/// y[i] = x[i] · the factor of element i. Its own way back.
KERNEL dropout(const float *x, Dropout d, long long n, float *y) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] * kept(d, (unsigned long long)i);
}
/// y[i] = x[i] · a factor of its own from 1 - noise to 1 + noise. Its own way back.
KERNEL jitter(const float *x, float noise, unsigned long long seed, long long n, float *y) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned long long bits = finish_mix(seed + ((unsigned long long)i + 1) * 0x9e3779b97f4a7c15ull) >> 40;
    float uniform = float(bits) * (1.0f / 16777216.0f);
    y[i] = x[i] * (1.0f - noise + 2.0f * noise * uniform);
}
/// Columns from.. of x [rows, x_width] to columns to.. of y [rows, y_width]. A block per row.
KERNEL copy_columns(const float *x, int x_width, int from, int columns, int y_width, int to, float *y) {
    const float *source = x + (long long)blockIdx.x * x_width + from;
    float *target = y + (long long)blockIdx.x * y_width + to;
    for (int c = int(threadIdx.x); c < columns; c += int(blockDim.x)) target[c] = source[c];
}

/// The token at a place of a list of `*count`; without a list the place itself. -1 past its end.
DEVICE int token_at(const int *order, const int *count, int place) {
    if (order == nullptr) return place;
    return place < *count ? order[place] : -1;
}
/// out = dropout(act(pre) · gate), rows of d_ff; null: no gate. Element j of token t has number t · d_ff + j. A block per
/// place.
KERNEL activate_rows(const float *pre, const float *gate, int act, Dropout d, const int *order, const int *count, int d_ff,
                     float *out) {
    int token = token_at(order, count, int(blockIdx.x));
    if (token < 0) return;
    long long row = (long long)blockIdx.x * d_ff;
    unsigned long long number = (unsigned long long)token * (unsigned long long)d_ff;
    for (int j = int(threadIdx.x); j < d_ff; j += int(blockDim.x)) {
        float value = activate(act, pre[row + j]);
        if (gate != nullptr) value *= gate[row + j];
        out[row + j] = value * kept(d, number + (unsigned long long)j);
    }
}
/// Its way back: `grad`, the gradient of the result, becomes that of `pre`; `gate_grad` gets that of the gate.
KERNEL activate_rows_backward(const float *pre, const float *gate, int act, Dropout d, const int *order, const int *count,
                              int d_ff, float *grad, float *gate_grad) {
    int token = token_at(order, count, int(blockIdx.x));
    if (token < 0) return;
    long long row = (long long)blockIdx.x * d_ff;
    unsigned long long number = (unsigned long long)token * (unsigned long long)d_ff;
    for (int j = int(threadIdx.x); j < d_ff; j += int(blockDim.x)) {
        float g = grad[row + j] * kept(d, number + (unsigned long long)j);
        grad[row + j] = g * (gate != nullptr ? gate[row + j] : 1.0f) * activation_slope(act, pre[row + j]);
        if (gate != nullptr) gate_grad[row + j] = g * activate(act, pre[row + j]);
    }
}
/// Per place of a list the gradient of its token's router weight, inside · activated, to `weight_grad` by token; then
/// multiplies the row of `inside` by that weight. A block per place. Shared: a float per warp.
KERNEL gate_backward(const float *activated, const float *weight, const int *order, const int *count, int d_ff,
                     float *inside, float *weight_grad) {
    SHARED(float, scratch);
    int token = token_at(order, count, int(blockIdx.x));
    if (token < 0) return;
    long long row = (long long)blockIdx.x * d_ff;
    float dots = 0.0f, factor = weight[token];
    for (int j = int(threadIdx.x); j < d_ff; j += int(blockDim.x)) {
        dots = fmaf(inside[row + j], activated[row + j], dots);
        inside[row + j] *= factor;
    }
    dots = block_sum(dots, scratch);
    if (threadIdx.x == 0) weight_grad[token] = dots;
}

/// As `TokenLoss` of training.rs.
struct TokenLoss {
    float *logits;
    /// null: none.
    const float *teacher;
    const int *labels;
    /// Per token: cross entropy with the label, squared log-sum-exp, cross entropy with the teacher.
    double *losses;
    /// Whether the first of the largest logits is the label's.
    int *correct;
    int vocab;
    /// 0: logits stay; else they become the gradient times `scale`.
    int want_gradient;
    float scale, label_smoothing, z_loss, hard_weight, soft_weight, temperature;
};

/// The loss of crates/kernels/src/training/loss.rs. A block per token; labels lie in the vocabulary. Shared: a double per
/// warp.
KERNEL token_loss(TokenLoss p) {
    SHARED(double, wide);
    float *narrow = reinterpret_cast<float *>(wide);
    int thread = int(threadIdx.x), threads = int(blockDim.x), label = p.labels[blockIdx.x];
    float *x = p.logits + (long long)blockIdx.x * p.vocab;
    const float *teacher = p.teacher != nullptr ? p.teacher + (long long)blockIdx.x * p.vocab : nullptr;
    float own = x[label], max = -INFINITY;
    for (int i = thread; i < p.vocab; i += threads) max = fmaxf(max, x[i]);
    max = block_max(max, narrow);
    double sum = 0.0, all = 0.0, earlier = 0.0;
    for (int i = thread; i < p.vocab; i += threads) {
        sum += double(expf(x[i] - max));
        all += double(x[i]);
        if (i < label && x[i] == max) earlier += 1.0;
    }
    double total = block_sum(sum, wide), mean = block_sum(all, wide) / double(p.vocab);
    bool first = block_sum(earlier, wide) == 0.0;
    double smoothing = double(p.label_smoothing), lse = double(max) + log(total);
    double hard = lse - (1.0 - smoothing) * double(own) - (smoothing == 0.0 ? 0.0 : smoothing * mean);
    float teacher_max = -INFINITY, inverse = 1.0f / p.temperature;
    double mine_total = 1.0, their_total = 1.0, soft = 0.0;
    if (teacher != nullptr) {
        for (int i = thread; i < p.vocab; i += threads) teacher_max = fmaxf(teacher_max, teacher[i]);
        teacher_max = block_max(teacher_max, narrow);
        double mine = 0.0, theirs = 0.0, dots = 0.0;
        for (int i = thread; i < p.vocab; i += threads) {
            float score = (x[i] - max) * inverse, q = expf((teacher[i] - teacher_max) * inverse);
            mine += double(expf(score));
            theirs += double(q);
            dots += double(q) * double(score);
        }
        mine_total = block_sum(mine, wide);
        their_total = block_sum(theirs, wide);
        soft = log(mine_total) - block_sum(dots, wide) / their_total;
        soft *= double(p.temperature) * double(p.temperature);
    }
    if (thread == 0) {
        p.losses[(long long)blockIdx.x * 3] = hard;
        p.losses[(long long)blockIdx.x * 3 + 1] = lse * lse;
        p.losses[(long long)blockIdx.x * 3 + 2] = soft;
        p.correct[blockIdx.x] = own == max && first ? 1 : 0;
    }
    if (!p.want_gradient) return;
    double hard_scale = double(p.scale) * double(p.hard_weight);
    float of_p = float((hard_scale + 2.0 * double(p.scale) * double(p.z_loss) * lse) / total);
    float spread = float(hard_scale * smoothing / double(p.vocab)), of_label = float(hard_scale * (1.0 - smoothing));
    double soft_scale = double(p.scale) * double(p.soft_weight) * double(p.temperature);
    float mine = float(soft_scale / mine_total), theirs = float(soft_scale / their_total);
    for (int i = thread; i < p.vocab; i += threads) {
        float gradient = expf(x[i] - max) * of_p - spread;
        if (teacher != nullptr) {
            gradient += expf((x[i] - max) * inverse) * mine - expf((teacher[i] - teacher_max) * inverse) * theirs;
        }
        x[i] = i == label ? gradient - of_label : gradient;
    }
}

// Top-1 routing, decision for decision as crates/kernels/src/route.rs: softmax in float32 with exponentials through
// float64 and summed in order, rounded to the router's type, the largest, the lowest index first; NaN counts as largest.
#include "common.cuh"

enum Rounding { ROUND_NONE, ROUND_F16, ROUND_BF16 };

DEVICE float rounded(float p, int rounding) {
    if (rounding == ROUND_F16) return f16_to_f32(f32_to_f16(p));
    if (rounding == ROUND_BF16) return widen(bf16{f32_to_bf16(p)});
    return p;
}

/// Whether (p, i) is chosen before (q, j).
DEVICE bool chosen_before(float p, int i, float q, int j) {
    bool p_nan = p != p, q_nan = q != q;
    if (p_nan || q_nan) return p_nan && (!q_nan || i < j);
    return p > q || (p == q && i < j);
}

/// A warp per token of `logits` [tokens, experts]: its expert and that expert's probability; -1 and 0 where `mask` is 0.
/// Shared: experts floats per warp.
KERNEL route_choose(const float *logits, const uint8_t *mask, int tokens, int experts, int rounding, int *expert,
                    float *weight) {
    SHARED(float, shared);
    int token = int(blockIdx.x) * warp_count() + warp_index();
    if (token >= tokens) return;
    if (mask != nullptr && mask[token] == 0) {
        if (lane_index() == 0) expert[token] = -1, weight[token] = 0.0f;
        return;
    }
    float *probabilities = shared + warp_index() * experts;
    logits += (long long)token * experts;
    float largest = -INFINITY;
    for (int i = lane_index(); i < experts; i += WARP) largest = fmaxf(largest, logits[i]);
    largest = warp_max(largest);
    float sum = 0.0f;
    for (int first = 0; first < experts; first += WARP) {
        int i = first + lane_index();
        float p = i < experts ? float(exp(double(logits[i] - largest))) : 0.0f;
        if (i < experts) probabilities[i] = p;
        // One after another, as on the CPU: the sum's last bit decides ties.
        for (int lane = 0; lane < WARP && first + lane < experts; lane++) sum += warp_read(p, lane);
    }
    int best = 0;
    float best_p = -INFINITY;
    for (int i = lane_index(); i < experts; i += WARP) {
        float p = rounded(probabilities[i] / sum, rounding);
        if (chosen_before(p, i, best_p, best)) best = i, best_p = p;
    }
    for (int step = WARP / 2; step > 0; step /= 2) {
        int other = warp_xor(best, step);
        float other_p = warp_xor(best_p, step);
        if (chosen_before(other_p, other, best_p, best)) best = other, best_p = other_p;
    }
    if (lane_index() == 0) expert[token] = best, weight[token] = best_p;
}

/// A warp per group, tokens `starts[g]..starts[g + 1]`: each token's slot in its expert in order of position; past the
/// group's capacity (-1: none) it is dropped. Shared: experts ints. Blocks of one warp.
KERNEL route_slots(int *expert, int *slot, float *weight, const int *starts, const int *capacities, int experts,
                   int zero_dropped) {
    SHARED(int, taken);
    int group = int(blockIdx.x), lane = lane_index();
    for (int i = lane; i < experts; i += WARP) taken[i] = 0;
    warp_sync();
    int end = starts[group + 1], capacity = capacities[group];
    for (int first = starts[group]; first < end; first += WARP) {
        int token = first + lane;
        int mine = token < end ? expert[token] : -1;
        unsigned same = warp_match(mine);
        int place = count_bits(same & ((1u << lane) - 1u));
        if (mine >= 0) place += taken[mine];
        warp_sync();
        // The first lane of those with one expert counts for all.
        if (mine >= 0 && first_bit(same) == lane) taken[mine] += count_bits(same);
        warp_sync();
        if (token >= end) continue;
        bool keep = mine >= 0 && (capacity < 0 || place < capacity);
        slot[token] = keep ? place : -1;
        if (mine >= 0 && !keep) {
            expert[token] = -1;
            if (zero_dropped) weight[token] = 0.0f;
        }
    }
}

/// As route_slots, but a full expert keeps the most probable tokens (NaN last, position among equals). A block per group
/// of at most `tokens` tokens. Shared: tokens ints.
KERNEL route_slots_by_weight(int *expert, int *slot, float *weight, const int *starts, const int *capacities,
                             int zero_dropped) {
    SHARED(int, place);
    int group = int(blockIdx.x), first = starts[group], count = starts[group + 1] - first;
    int capacity = capacities[group];
    for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) {
        int mine = expert[first + i], before = 0;
        float w = weight[first + i];
        for (int j = 0; j < count; j++) {
            if (expert[first + j] != mine || j == i) continue;
            float other = weight[first + j];
            bool other_nan = other != other, nan = w != w;
            bool ahead = nan != other_nan ? nan : other > w || (!(other < w) && j < i);
            before += ahead ? 1 : 0;
        }
        place[i] = before;
    }
    block_sync();
    for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) {
        int token = first + i, mine = expert[token];
        bool keep = mine >= 0 && (capacity < 0 || place[i] < capacity);
        slot[token] = keep ? place[i] : -1;
        if (mine >= 0 && !keep) {
            expert[token] = -1;
            if (zero_dropped) weight[token] = 0.0f;
        }
    }
}

/// The gradient of router logits [tokens, experts] given that of the chosen probability: g · p_c · (δ_jc - p_j). Nothing
/// for tokens that went nowhere. A warp per token; adds to `logits_grad`.
KERNEL route_backward(const float *logits, const int *expert, const float *weight_grad, int tokens, int experts,
                      float *logits_grad) {
    int token = int(blockIdx.x) * warp_count() + warp_index();
    if (token >= tokens || expert[token] < 0) return;
    logits += (long long)token * experts;
    logits_grad += (long long)token * experts;
    float largest = -INFINITY, sum = 0.0f;
    for (int i = lane_index(); i < experts; i += WARP) largest = fmaxf(largest, logits[i]);
    largest = warp_max(largest);
    for (int i = lane_index(); i < experts; i += WARP) sum += expf(logits[i] - largest);
    sum = warp_sum(sum);
    int chosen = expert[token];
    float scale = weight_grad[token] * expf(logits[chosen] - largest) / sum;
    for (int i = lane_index(); i < experts; i += WARP) {
        float p = expf(logits[i] - largest) / sum;
        logits_grad[i] += scale * ((i == chosen ? 1.0f : 0.0f) - p);
    }
}

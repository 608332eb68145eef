// The choice of a token per row, greedy or by temperature, top-k and top-p, so that an integer a row goes back to the host.
// The rules are those of crates/generation: top-k keeps those as likely as the last of them, top-p the fewest that reach p
// (of equals the higher id first), a draw takes the token at which the sum in order of ids passes the uniform number.
//
// Probabilities are summed as integers of 2^-40 of the largest: the sum is the same in every order of threads.
#include "common.cuh"

typedef unsigned long long Mass;
constexpr int BINS = 256;

/// Bits that order as the floats do.
DEVICE unsigned ordered(float x) {
    unsigned bits = to_bits(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
DEVICE Mass mass_of(float weight) { return Mass(double(weight) * 1099511627776.0); }

/// Shared memory of sample_rows.
struct Choice {
    Mass mass[BINS], before[1024 + 1];
    int count[BINS];
    float scratch[32];
    int nan;
    /// Of the search for an edge: bits so far, the mass above, how many items are at the edge and how many of them stay.
    unsigned edge;
    Mass above;
    int equals, keep;
    int chosen;
};
/// What sample.rs asks for.
static_assert(sizeof(Choice) <= 11440, "the shared memory of a launch");

/// One byte of a search for the item, largest first, at which the mass (or with `by_count` the count) reaches `goal`.
/// `key(i)` gives an item's bits, `weight(i)` its mass; items of mass 0 take no part unless counting.
template <class Key, class Weight>
DEVICE void narrow_edge(Choice *s, int n, int shift, Mass goal, bool by_count, Key key, Weight weight) {
    int thread = int(threadIdx.x), threads = int(blockDim.x);
    for (int i = thread; i < BINS; i += threads) s->mass[i] = 0, s->count[i] = 0;
    block_sync();
    unsigned known = shift == 24 ? 0u : ~0u << (shift + 8), edge = s->edge;
    for (int i = thread; i < n; i += threads) {
        unsigned bits = key(i);
        if ((bits & known) != (edge & known)) continue;
        Mass m = by_count ? 1 : weight(i);
        if (m == 0) continue;
        shared_add(&s->mass[(bits >> shift) & 255u], m);
        shared_add(&s->count[(bits >> shift) & 255u], 1);
    }
    block_sync();
    if (thread == 0) {
        Mass above = s->above;
        int bin = BINS - 1, last = -1;
        for (; bin >= 0; bin--) {
            if (s->count[bin] == 0) continue;
            last = bin;
            if (above + s->mass[bin] >= goal) break;
            above += s->mass[bin];
        }
        // Never reached: the last item is the edge.
        if (bin < 0) bin = last < 0 ? 0 : last, above -= last < 0 ? 0 : s->mass[bin];
        s->edge = edge | unsigned(bin) << shift;
        s->above = above;
        s->equals = s->count[bin];
    }
    block_sync();
}

/// A token per row of `x` [rows, n] to `out`; -1 where the host has to say why there is none (NaN, no distribution).
/// `uniforms` [rows], from 0 up to 1, or null: the largest, the lowest id among equals. `scores` [rows, n] is scratch.
/// `top_k` 0 and `top_p` 1: all. A block of up to 1024 threads per row. Shared: a Choice.
KERNEL sample_rows(const float *x, const double *uniforms, float temperature, int top_k, double top_p, int n, float *scores,
                   int *out) {
    SHARED(Choice, s);
    int thread = int(threadIdx.x), threads = int(blockDim.x);
    const float *from = x + (long long)blockIdx.x * n;
    float *row = scores + (long long)blockIdx.x * n;
    if (thread == 0) s->nan = 0, s->chosen = n, s->edge = 0, s->above = 0;
    block_sync();
    float top = -INFINITY;
    for (int i = thread; i < n; i += threads) {
        float score = uniforms != nullptr ? from[i] / temperature : from[i];
        if (score != score) s->nan = 1;
        row[i] = score;
        top = fmaxf(top, score);
    }
    top = block_max(top, s->scratch);
    block_sync();
    if (s->nan || (uniforms != nullptr && (top == INFINITY || top == -INFINITY))) {
        if (thread == 0) out[blockIdx.x] = -1;
        return;
    }
    if (uniforms == nullptr) {
        int mine = n;
        for (int i = thread; i < n && mine == n; i += threads) {
            if (row[i] == top) mine = i;
        }
        for (int mask = WARP / 2; mask > 0; mask /= 2) {
            int other = warp_xor(mine, mask);
            mine = other < mine ? other : mine;
        }
        int *places = reinterpret_cast<int *>(s->scratch);
        block_sync();
        if (lane_index() == 0) places[warp_index()] = mine;
        block_sync();
        if (thread == 0) {
            for (int w = 0; w < warp_count(); w++) mine = places[w] < mine ? places[w] : mine;
            out[blockIdx.x] = mine < n ? mine : 0;
        }
        return;
    }
    if (top_k > 0 && top_k < n) {
        auto key = [&](int i) { return ordered(row[i]); };
        for (int shift = 24; shift >= 0; shift -= 8) {
            narrow_edge(s, n, shift, Mass(top_k), true, key, [](int) { return Mass(1); });
        }
        unsigned least = s->edge;
        for (int i = thread; i < n; i += threads) {
            if (ordered(row[i]) < least) row[i] = -INFINITY;
        }
        block_sync();
    }
    // From scores to weights, 1 for the largest.
    for (int i = thread; i < n; i += threads) row[i] = expf(row[i] - top);
    block_sync();
    if (top_p < 1.0) {
        Mass sum = 0;
        for (int i = thread; i < n; i += threads) sum += mass_of(row[i]);
        if (thread == 0) s->before[0] = 0, s->edge = 0, s->above = 0;
        block_sync();
        shared_add(&s->before[0], sum);
        block_sync();
        Mass goal = Mass(ceil(top_p * double(s->before[0])));
        auto key = [&](int i) { return to_bits(row[i]); };
        auto weight = [&](int i) { return mass_of(row[i]); };
        for (int shift = 24; shift >= 0; shift -= 8) narrow_edge(s, n, shift, goal, false, key, weight);
        float edge = from_bits(s->edge);
        if (thread == 0) {
            Mass each = mass_of(edge), missing = goal > s->above ? goal - s->above : 0;
            Mass keep = each == 0 ? 1 : (missing + each - 1) / each;
            s->keep = keep < 1 ? 1 : keep > Mass(s->equals) ? s->equals : int(keep);
            // Of several equals at the edge the highest ids stay.
            s->chosen = 0;
            if (s->keep < s->equals) {
                int left = s->keep, i = n - 1;
                for (; i >= 0; i--) {
                    if (row[i] == edge && --left == 0) break;
                }
                s->chosen = i;
            }
        }
        block_sync();
        int lowest = s->chosen;
        for (int i = thread; i < n; i += threads) {
            if (row[i] < edge || (row[i] == edge && i < lowest)) row[i] = 0.0f;
        }
        block_sync();
    }
    // A thread sums its own stretch of ids; the one in which the target lies looks for it there.
    int stretch = (n + threads - 1) / threads, begin = thread * stretch, end = begin + stretch < n ? begin + stretch : n;
    Mass sum = 0;
    for (int i = begin; i < end; i++) sum += mass_of(row[i]);
    s->before[thread + 1] = sum;
    block_sync();
    if (thread == 0) {
        s->before[0] = 0;
        for (int t = 0; t < threads; t++) s->before[t + 1] += s->before[t];
        s->chosen = -1;
    }
    block_sync();
    Mass total = s->before[threads], target = Mass(uniforms[blockIdx.x] * double(total));
    if (target >= total) target = total - 1;
    Mass passed = s->before[thread];
    if (passed <= target && target < s->before[thread + 1]) {
        for (int i = begin; i < end; i++) {
            passed += mass_of(row[i]);
            if (passed > target) {
                s->chosen = i;
                break;
            }
        }
    }
    block_sync();
    if (thread == 0) out[blockIdx.x] = s->chosen;
}

// Matrix products: y[m, n] = Σ_k a[m, k] · b[n, k], of one pair of matrices, of groups of rows (experts: b by group), or
// of groups of the summed dimension (the gradients of experts: y by group). No padding to capacity: a tile belongs to one
// group and is cut where the group ends (MegaBlocks' way; tiles come from permute.cu).
//
// Tried: nothing has been timed yet. 128 x 128 tiles of mma.sync, operands through registers, so that float32 activations
// are rounded and quantised weights widened on their way into shared memory; two buffers, one barrier a step.
#include "activation.cuh"

/// As `Product` of product.rs, field for field.
struct Product {
    const float *a;
    long long a_row, a_k;
    const void *b;
    /// Per group the address of its b; null: `b` for all.
    const unsigned long long *b_table;
    long long b_row, b_k;
    /// Of quantised b: one per row and block of columns; by group with `scale_table`.
    const float *scales;
    const unsigned long long *scale_table;
    float *y;
    const unsigned long long *y_table;
    long long y_row;
    /// Per row of the groups' list the row of a (A_GATHER) or y (Y_SCATTER).
    const int *order;
    /// Y_SCATTER multiplies by this, by row of y.
    const float *row_weight;
    /// Group, first row in the list and rows of each tile; null: one group of m rows.
    const int *tiles;
    /// RAGGED_K: where each group's part of the summed dimension begins, and the end.
    const int *offsets;
    int m, n, k;
    int activation;
    int flags;
    int quant_block;
};
enum ProductFlags { A_GATHER = 1, Y_SCATTER = 2, ADD = 4, MULTIPLY = 8, RAGGED_K = 16 };

/// The formats of crates/kernels/src/quantised: signed bytes, and blocks of 32 columns in 16 bytes, byte i of which holds
/// column i in its low half and column i + 16 in its high half, 0 to 15 standing for -8 to 7.
struct int8q {};
struct int4q {};

/// What a tile of the product works on.
struct Part {
    const void *b;
    const float *scales;
    float *y;
    int first, rows, k_begin, k_end;
};

DEVICE bool part_of(const Product &p, int tile, int tile_rows, Part &part) {
    int group = 0;
    part.k_begin = 0;
    part.k_end = p.k;
    if (p.tiles != nullptr) {
        group = p.tiles[tile * 3];
        if (group < 0) return false;
        part.first = p.tiles[tile * 3 + 1];
        part.rows = p.tiles[tile * 3 + 2];
    } else {
        part.first = tile * tile_rows;
        part.rows = p.m - part.first < tile_rows ? p.m - part.first : tile_rows;
    }
    if (p.flags & RAGGED_K) {
        group = int(blockIdx.z);
        part.k_begin = p.offsets[group];
        part.k_end = p.offsets[group + 1];
    }
    part.b = p.b_table != nullptr ? reinterpret_cast<const void *>(p.b_table[group]) : p.b;
    part.scales = p.scale_table != nullptr ? reinterpret_cast<const float *>(p.scale_table[group]) : p.scales;
    part.y = p.y_table != nullptr ? reinterpret_cast<float *>(p.y_table[group]) : p.y;
    return true;
}

DEVICE void load4(const float *from, float (&to)[4]) {
    float4 v = *reinterpret_cast<const float4 *>(from);
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
template <class Half> DEVICE void load4(const Half *from, float (&to)[4]) {
    uint2 v = *reinterpret_cast<const uint2 *>(from);
    to[0] = widen(Half{uint16_t(v.x)}), to[1] = widen(Half{uint16_t(v.x >> 16)});
    to[2] = widen(Half{uint16_t(v.y)}), to[3] = widen(Half{uint16_t(v.y >> 16)});
}

/// The b of one group, element (row n, column k) wherever it lies.
template <class T> struct Weights {
    const T *base;
    long long row, step;
    bool aligned;
    DEVICE_METHOD Weights(const Product &p, const Part &part)
        : base(static_cast<const T *>(part.b)), row(p.b_row), step(p.b_k) {
        long long across = step == 1 ? row : step;
        aligned = across % 4 == 0 && reinterpret_cast<uintptr_t>(base) % (4 * sizeof(T)) == 0;
    }
    DEVICE_METHOD float at(int n, int k) const { return widen(base[n * row + k * step]); }
    /// Four elements along the contiguous side, `n` or `k` being a multiple of 4.
    DEVICE_METHOD void four(int n, int k, float (&to)[4]) const { load4(base + n * row + k * step, to); }
};
template <> struct Weights<int8q> {
    const int8_t *base;
    const float *scales;
    long long row, step, blocks;
    int block;
    static constexpr bool aligned = false;
    DEVICE_METHOD Weights(const Product &p, const Part &part)
        : base(static_cast<const int8_t *>(part.b)), scales(part.scales), row(p.b_row), step(p.b_k),
          block(p.quant_block) {
        blocks = ((step == 1 ? row : step) + block - 1) / block;
    }
    DEVICE_METHOD float at(int n, int k) const {
        long long r = step == 1 ? n : k, c = step == 1 ? k : n, across = step == 1 ? row : step;
        return float(base[r * across + c]) * scales[r * blocks + c / block];
    }
    DEVICE_METHOD void four(int, int, float (&)[4]) const {}
};
template <> struct Weights<int4q> {
    const uint8_t *base;
    const float *scales;
    long long row, step, blocks;
    int block;
    static constexpr bool aligned = false;
    DEVICE_METHOD Weights(const Product &p, const Part &part)
        : base(static_cast<const uint8_t *>(part.b)), scales(part.scales), row(p.b_row), step(p.b_k),
          block(p.quant_block) {
        blocks = ((step == 1 ? row : step) + block - 1) / block;
    }
    DEVICE_METHOD float at(int n, int k) const {
        long long r = step == 1 ? n : k, c = step == 1 ? k : n, across = step == 1 ? row : step;
        uint8_t pair = base[r * (across / 2) + c / 32 * 16 + c % 16];
        return float(int(c % 32 < 16 ? pair & 15 : pair >> 4) - 8) * scales[r * blocks + c / block];
    }
    DEVICE_METHOD void four(int, int, float (&)[4]) const {}
};
/// The a of one tile, its rows gathered where the flags say so.
struct Inputs {
    const float *base;
    const int *order;
    long long row, step;
    int first;
    bool aligned;
    DEVICE_METHOD Inputs(const Product &p, const Part &part)
        : base(p.a), order((p.flags & A_GATHER) ? p.order : nullptr), row(p.a_row), step(p.a_k), first(part.first) {
        long long across = step == 1 ? row : step;
        aligned = across % 4 == 0 && reinterpret_cast<uintptr_t>(base) % 16 == 0 && (order == nullptr || step == 1);
    }
    DEVICE_METHOD long long of(int m) const { return (order != nullptr ? order[first + m] : first + m) * row; }
    DEVICE_METHOD float at(int m, int k) const { return base[of(m) + k * step]; }
    DEVICE_METHOD void four(int m, int k, float (&to)[4]) const { load4(base + of(m) + k * step, to); }
};

constexpr int PRODUCT_THREADS = 256;

/// This thread's part of a tile [ROWS, DEPTH] of an operand: quads along its contiguous side.
template <int ROWS, int DEPTH> struct Quads {
    static constexpr int COUNT = ROWS * DEPTH / 4 / PRODUCT_THREADS;
    static_assert(COUNT > 0, "every thread loads something");
    float values[COUNT][4];

    /// Row and depth of quad i, and whether it runs along the depth.
    DEVICE_METHOD static void place(int i, bool along_depth, int &row, int &depth) {
        int index = i * PRODUCT_THREADS + int(threadIdx.x);
        if (along_depth) {
            row = index / (DEPTH / 4);
            depth = index % (DEPTH / 4) * 4;
        } else {
            row = index % (ROWS / 4) * 4;
            depth = index / (ROWS / 4);
        }
    }
    template <class Operand>
    DEVICE_METHOD void load(const Operand &operand, int row0, int rows, int k0, int k_end) {
        bool along_depth = operand.step == 1;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            int row, depth;
            place(i, along_depth, row, depth);
            int k = k0 + depth;
            // A quad starts at a multiple of 4 of its side; the K of a ragged group may begin anywhere.
            bool whole = along_depth ? row < rows && k + 3 < k_end && k0 % 4 == 0 : row + 3 < rows && k < k_end;
            if (whole && operand.aligned) {
                operand.four(row0 + row, k, values[i]);
                continue;
            }
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int r = along_depth ? row : row + j, at = along_depth ? k + j : k;
                values[i][j] = r < rows && at < k_end ? operand.at(row0 + r, at) : 0.0f;
            }
        }
    }
    template <class Store> DEVICE_METHOD void store(bool along_depth, Store store) const {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            int row, depth;
            place(i, along_depth, row, depth);
#pragma unroll
            for (int j = 0; j < 4; j++) store(along_depth ? row : row + j, along_depth ? depth + j : depth, values[i][j]);
        }
    }
};

/// Plain float32: 64 x 64 of y by 16 x 16 threads of 4 x 4.
struct Exact {
    static constexpr int M = 64, N = 64, K = 16, WORDS = (M + N) * (K + 1);
    float sums[4][4] = {};
    DEVICE_METHOD static void put_a(uint32_t *tile, int row, int depth, float value) {
        tile[row * (K + 1) + depth] = to_bits(value);
    }
    DEVICE_METHOD static void put_b(uint32_t *tile, int row, int depth, float value) { put_a(tile, row, depth, value); }
    DEVICE_METHOD static uint32_t *b_of(uint32_t *buffer) { return buffer + M * (K + 1); }
    DEVICE_METHOD void multiply(const uint32_t *a, const uint32_t *b) {
        int row = int(threadIdx.x) / 16, column = int(threadIdx.x) % 16;
        for (int k = 0; k < K; k++) {
            float x[4], w[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                x[i] = from_bits(a[(row + 16 * i) * (K + 1) + k]);
                w[i] = from_bits(b[(column + 16 * i) * (K + 1) + k]);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) sums[i][j] = fmaf(x[i], w[j], sums[i][j]);
            }
        }
    }
    template <class Emit> DEVICE_METHOD void each(Emit emit) const {
        int row = int(threadIdx.x) / 16, column = int(threadIdx.x) % 16;
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) emit(row + 16 * i, column + 16 * j, sums[i][j]);
        }
    }
};

/// Tensor cores: 128 x 128 of y by 8 warps of 64 x 32. A row of a tile is 16 words (32 halves or 16 tf32), and 4 words of
/// padding, with which the 32 words that a warp reads for a fragment lie in 32 banks. With PARTS of 2 a row of a is 8 words
/// of leading halves and 8 of what these leave, and of b 8 words.
template <class Type, int PARTS = 1> struct Tensor {
    static constexpr int M = 128, N = 128, K = Type::PER_WORD * 16 / PARTS, STRIDE = 20, WORDS = (M + N) * STRIDE;
    float sums[4][4][4] = {};
    DEVICE_METHOD static void put_a(uint32_t *tile, int row, int depth, float value) {
        float left = value - Type::put(tile + row * STRIDE, depth, value);
        // Of an infinity nothing is left; NaN is in the first part.
        if (PARTS == 2) Type::put(tile + row * STRIDE, depth + K, left == left ? left : 0.0f);
    }
    DEVICE_METHOD static void put_b(uint32_t *tile, int row, int depth, float value) {
        Type::put(tile + row * STRIDE, depth, value);
    }
    DEVICE_METHOD static uint32_t *b_of(uint32_t *buffer) { return buffer + M * STRIDE; }
    DEVICE_METHOD void multiply(const uint32_t *a, const uint32_t *b) {
        int group = lane_index() / 4, place = lane_index() % 4;
        int row0 = warp_index() / 4 * 64 + group, column0 = warp_index() % 4 * 32 + group;
#pragma unroll
        for (int word = place; word < 16; word += 8) {
            uint32_t x[4][4], w[4][2];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const uint32_t *at = a + (row0 + i * 16) * STRIDE + word;
                x[i][0] = at[0], x[i][1] = at[8 * STRIDE], x[i][2] = at[4], x[i][3] = at[8 * STRIDE + 4];
                const uint32_t *bt = b + (column0 + i * 8) * STRIDE + (PARTS == 2 ? place : word);
                w[i][0] = bt[0], w[i][1] = bt[4];
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) Type::mma(sums[i][j], x[i], w[j]);
            }
        }
    }
    template <class Emit> DEVICE_METHOD void each(Emit emit) const {
        int group = lane_index() / 4, place = lane_index() % 4;
        int row0 = warp_index() / 4 * 64 + group, column0 = warp_index() % 4 * 32 + place * 2;
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
#pragma unroll
                for (int c = 0; c < 4; c++) emit(row0 + i * 16 + c / 2 * 8, column0 + j * 8 + c % 2, sums[i][j][c]);
            }
        }
    }
};
/// `put` gives what it put.
struct TypeBf16 {
    static constexpr int PER_WORD = 2;
    DEVICE_METHOD static float put(uint32_t *row, int depth, float value) {
        uint16_t bits = f32_to_bf16(value);
        reinterpret_cast<uint16_t *>(row)[depth] = bits;
        return widen(bf16{bits});
    }
    DEVICE_METHOD static void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mma_bf16(c, a, b); }
};
struct TypeF16 {
    static constexpr int PER_WORD = 2;
    DEVICE_METHOD static float put(uint32_t *row, int depth, float value) {
        // T5's hidden states pass float16's range; the largest number is nearer than infinity. NaN stays.
        float held = value > 65504.0f ? 65504.0f : value < -65504.0f ? -65504.0f : value;
        uint16_t bits = f32_to_f16(held);
        reinterpret_cast<uint16_t *>(row)[depth] = bits;
        return f16_to_f32(bits);
    }
    DEVICE_METHOD static void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mma_f16(c, a, b); }
};
struct TypeTf32 {
    static constexpr int PER_WORD = 1;
    DEVICE_METHOD static float put(uint32_t *row, int depth, float value) {
        row[depth] = f32_to_tf32(value);
        return from_bits(row[depth]);
    }
    DEVICE_METHOD static void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { mma_tf32(c, a, b); }
};

DEVICE void emit(const Product &p, const Part &part, int row, int column, float value) {
    long long to = part.first + row;
    float weight = 1.0f;
    if (p.flags & Y_SCATTER) {
        to = p.order[to];
        if (p.row_weight != nullptr) weight = p.row_weight[to];
    }
    float *at = part.y + to * p.y_row + column;
    value = activate(p.activation, value);
    if (p.flags & MULTIPLY) value *= *at;
    value *= weight;
    if (p.flags & ADD) value += *at;
    *at = value;
}

template <class Method, class B> DEVICE void product(const Product &p) {
    SHARED(uint32_t, shared);
    Part part;
    if (!part_of(p, int(blockIdx.y), Method::M, part)) return;
    int column0 = int(blockIdx.x) * Method::N, columns = p.n - column0;
    Inputs inputs(p, part);
    Weights<B> weights(p, part);
    Quads<Method::M, Method::K> a;
    Quads<Method::N, Method::K> b;
    Method sums;
    bool a_along = inputs.step == 1, b_along = weights.step == 1;
    auto load = [&](int k0) {
        a.load(inputs, 0, part.rows, k0, part.k_end);
        b.load(weights, column0, columns, k0, part.k_end);
    };
    auto store = [&](uint32_t *buffer) {
        a.store(a_along, [&](int row, int depth, float value) { Method::put_a(buffer, row, depth, value); });
        uint32_t *to = Method::b_of(buffer);
        b.store(b_along, [&](int row, int depth, float value) { Method::put_b(to, row, depth, value); });
    };
    if (part.k_begin < part.k_end) load(part.k_begin);
    int turn = 0;
    for (int k0 = part.k_begin; k0 < part.k_end; k0 += Method::K) {
        uint32_t *buffer = shared + turn * Method::WORDS;
        store(buffer);
        block_sync();
        // In flight while the tensor cores work; the next store goes to the other buffer.
        if (k0 + Method::K < part.k_end) load(k0 + Method::K);
        sums.multiply(buffer, Method::b_of(buffer));
        turn ^= 1;
    }
    sums.each([&](int row, int column, float value) {
        if (row < part.rows && column < columns) emit(p, part, row, column0 + column, value);
    });
}

constexpr int FEW_ROWS = 8;

/// Products of up to 8 rows, as in decoding: a warp per column, so that each weight is read once, in order. Float32.
template <class B> DEVICE void product_few(const Product &p) {
    Part part;
    if (!part_of(p, int(blockIdx.y), FEW_ROWS, part)) return;
    int column = int(blockIdx.x) * warp_count() + warp_index();
    if (column >= p.n) return;
    Inputs inputs(p, part);
    Weights<B> weights(p, part);
    float sums[FEW_ROWS] = {};
    for (int k = lane_index() * 4; k < p.k; k += WARP * 4) {
        float w[4] = {};
        bool whole = k + 3 < p.k;
        if (whole && weights.aligned && weights.step == 1) {
            weights.four(column, k, w);
        } else {
            for (int j = 0; j < 4; j++) w[j] = k + j < p.k ? weights.at(column, k + j) : 0.0f;
        }
#pragma unroll
        for (int row = 0; row < FEW_ROWS; row++) {
            if (row >= part.rows) break;
            float x[4] = {};
            if (whole && inputs.aligned && inputs.step == 1) {
                inputs.four(row, k, x);
            } else {
                for (int j = 0; j < 4; j++) x[j] = k + j < p.k ? inputs.at(row, k + j) : 0.0f;
            }
            for (int j = 0; j < 4; j++) sums[row] = fmaf(x[j], w[j], sums[row]);
        }
    }
#pragma unroll
    for (int row = 0; row < FEW_ROWS; row++) {
        float sum = warp_sum(sums[row]);
        if (lane_index() == 0 && row < part.rows) emit(p, part, row, column, sum);
    }
}

KERNEL product_exact_f32(Product p) { product<Exact, float>(p); }
KERNEL product_exact_f16(Product p) { product<Exact, f16>(p); }
KERNEL product_exact_bf16(Product p) { product<Exact, bf16>(p); }
KERNEL product_exact_int8(Product p) { product<Exact, int8q>(p); }
KERNEL product_exact_int4(Product p) { product<Exact, int4q>(p); }
KERNEL product_tf32_f32(Product p) { product<Tensor<TypeTf32>, float>(p); }
KERNEL product_bf16_f32(Product p) { product<Tensor<TypeBf16>, float>(p); }
KERNEL product_bf16_bf16(Product p) { product<Tensor<TypeBf16>, bf16>(p); }
KERNEL product_bf16_int8(Product p) { product<Tensor<TypeBf16>, int8q>(p); }
KERNEL product_bf16_int4(Product p) { product<Tensor<TypeBf16>, int4q>(p); }
KERNEL product_f16_f16(Product p) { product<Tensor<TypeF16>, f16>(p); }
KERNEL product_split_bf16(Product p) { product<Tensor<TypeBf16, 2>, bf16>(p); }
KERNEL product_split_f16(Product p) { product<Tensor<TypeF16, 2>, f16>(p); }
KERNEL product_few_f32(Product p) { product_few<float>(p); }
KERNEL product_few_f16(Product p) { product_few<f16>(p); }
KERNEL product_few_bf16(Product p) { product_few<bf16>(p); }
KERNEL product_few_int8(Product p) { product_few<int8q>(p); }
KERNEL product_few_int4(Product p) { product_few<int4q>(p); }

// CUDA's threads on a CPU, for tests: every thread of a block is a fiber, barriers and shuffles switch between them.
//
// It proves what a kernel computes: indices, masks, barriers (one that not all threads reach is an error), the layout of
// mma fragments as the PTX manual gives it, and, run in several orders of threads and blocks with equal results, that no
// barrier is missing. Shared memory starts as NaN and has exactly the size that the launch asked for. It proves nothing of
// speed, of registers and occupancy, of memory ordering inside a warp beyond its shuffles, nor of the hardware's own
// rounding inside a matrix product.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KERNEL extern "C" void
#define DEVICE static inline
#define DEVICE_METHOD inline
#define DEVICE_CALL static
#define SHARED(type, name) type *name = reinterpret_cast<type *>(shim::shared())

struct float4 {
    float x, y, z, w;
};
struct uint2 {
    unsigned x, y;
};
struct dim3 {
    unsigned x, y, z;
};
#define threadIdx (shim::thread_index())
#define blockIdx (shim::block_index())
#define blockDim (shim::block_dim())
#define gridDim (shim::grid_dim())

namespace shim {
const dim3 &thread_index();
const dim3 &block_index();
const dim3 &block_dim();
const dim3 &grid_dim();
unsigned char *shared();
void block_barrier();
/// Publishes `words` (up to 8 of 32 bits) to the warp, waits for all lanes and returns what each published.
const uint32_t (*exchange(const uint32_t *words, int count))[8];
}  // namespace shim

DEVICE void block_sync() { shim::block_barrier(); }

template <class T> DEVICE T warp_read(T value, int lane) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles are of 32 or 64 bits");
    uint32_t words[8] = {};
    memcpy(words, &value, sizeof value);
    memcpy(&value, shim::exchange(words, sizeof(T) / 4)[lane & 31], sizeof value);
    return value;
}
template <class T> DEVICE T warp_xor(T value, int mask) {
    return warp_read(value, (int(threadIdx.x) % 32) ^ mask);
}
DEVICE unsigned warp_match(int value) {
    uint32_t word[8] = {uint32_t(value)};
    auto all = shim::exchange(word, 1);
    unsigned same = 0;
    for (int lane = 0; lane < 32; lane++) same |= unsigned(all[lane][0] == uint32_t(value)) << lane;
    return same;
}
DEVICE void warp_sync() {
    uint32_t nothing[8] = {};
    shim::exchange(nothing, 0);
}
/// Fibers of a block take turns, so that this is atomic.
DEVICE int shared_add(int *at, int value) {
    int before = *at;
    *at += value;
    return before;
}
DEVICE void shared_add(unsigned long long *at, unsigned long long value) { *at += value; }

DEVICE float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
DEVICE uint32_t to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}
DEVICE int count_bits(unsigned value) { return __builtin_popcount(value); }
DEVICE int first_bit(unsigned value) { return __builtin_ffs(int(value)) - 1; }

DEVICE float f16_to_f32(uint16_t bits) {
    uint32_t sign = uint32_t(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u, mantissa = bits & 0x3ffu;
    if (exponent == 31) return from_bits(sign | 0x7f800000u | (mantissa << 13));
    if (exponent != 0) return from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
    float value = float(mantissa) * 0x1p-24f;
    return sign ? -value : value;
}
DEVICE uint16_t f32_to_f16(float value) {
    uint32_t bits = to_bits(value);
    uint16_t sign = uint16_t((bits >> 16) & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return uint16_t(sign | 0x7e00u);
    if (bits >= 0x477ff000u) return uint16_t(sign | 0x7c00u);
    if (bits < 0x38800000u) {
        // Below the normal range: the sum with 0.5 rounds to multiples of 2^-24.
        float shifted = from_bits(bits) + 0.5f;
        return uint16_t(sign | (to_bits(shifted) - 0x3f000000u));
    }
    return uint16_t(sign | ((bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u)) >> 13));
}

// mma.sync m16n8k16 and m16n8k8, from the fragments' layout in the PTX manual ("Matrix Fragments for mma.m16n8k16"): lane
// = 4 · group + place; a's registers hold rows group and group + 8, b's column group, c's rows group and group + 8 at
// columns 2 · place and the next.
namespace shim {
template <int K, class Element>
inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Element element) {
    uint32_t words[8] = {a[0], a[1], a[2], a[3], b[0], b[1], 0, 0};
    auto all = exchange(words, 6);
    int lane = int(threadIdx.x) % 32, group = lane / 4, place = lane % 4;
    for (int i = 0; i < 4; i++) {
        int row = group + (i / 2) * 8, column = place * 2 + i % 2;
        float sum = c[i];
        for (int k = 0; k < K; k++) sum += element.a(all, row, k) * element.b(all, k, column);
        c[i] = sum;
    }
}
template <float (*Widen)(uint16_t)> struct Halves {
    static float half(uint32_t word, int k) { return Widen(uint16_t(k % 2 ? word >> 16 : word)); }
    float a(const uint32_t (*all)[8], int row, int k) const {
        return half(all[(row % 8) * 4 + (k % 8) / 2][(row / 8) + 2 * (k / 8)], k);
    }
    float b(const uint32_t (*all)[8], int k, int column) const {
        return half(all[column * 4 + (k % 8) / 2][4 + k / 8], k);
    }
};
struct Tf32 {
    float a(const uint32_t (*all)[8], int row, int k) const {
        return from_bits(all[(row % 8) * 4 + k % 4][(row / 8) + 2 * (k / 4)]);
    }
    float b(const uint32_t (*all)[8], int k, int column) const { return from_bits(all[column * 4 + k % 4][4 + k / 4]); }
};
inline float widen_bf16(uint16_t bits) { return from_bits(uint32_t(bits) << 16); }
inline float widen_f16(uint16_t bits) { return f16_to_f32(bits); }
}  // namespace shim

DEVICE void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    shim::mma<16>(c, a, b, shim::Halves<shim::widen_bf16>{});
}
DEVICE void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    shim::mma<16>(c, a, b, shim::Halves<shim::widen_f16>{});
}
DEVICE void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    shim::mma<8>(c, a, b, shim::Tf32{});
}

// What every kernel here is written in: a few names over CUDA C++, which host_shim.h gives to a C++ compiler too, so that
// the same sources run, thread by thread, on a CPU (see host_shim.h for what that proves and what it does not).
//
// Rules that keep both readings alike: blocks are whole warps, shuffles and matrix products are called by all 32 lanes,
// barriers by all threads of a block, and shared memory is one dynamic array per kernel, named by SHARED.
#pragma once

#include <math.h>
#include <stdint.h>

#ifdef SWITCH_HOST
#include "host_shim.h"
#else
#include <cuda_fp16.h>
#define KERNEL extern "C" __global__ void
#define DEVICE static __device__ __forceinline__
#define DEVICE_METHOD __device__ __forceinline__
#define DEVICE_CALL static __device__ __noinline__
extern __shared__ __align__(16) unsigned char switch_shared[];
#define SHARED(type, name) type *name = reinterpret_cast<type *>(switch_shared)
constexpr unsigned FULL_WARP = 0xffffffffu;

DEVICE void block_sync() { __syncthreads(); }
template <class T> DEVICE T warp_read(T value, int lane) { return __shfl_sync(FULL_WARP, value, lane); }
template <class T> DEVICE T warp_xor(T value, int mask) { return __shfl_xor_sync(FULL_WARP, value, mask); }
/// The lanes whose value is this lane's.
DEVICE unsigned warp_match(int value) { return __match_any_sync(FULL_WARP, value); }
DEVICE void warp_sync() { __syncwarp(); }
DEVICE int shared_add(int *at, int value) { return atomicAdd(at, value); }
DEVICE void shared_add(unsigned long long *at, unsigned long long value) { atomicAdd(at, value); }
DEVICE float f16_to_f32(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
DEVICE uint16_t f32_to_f16(float value) { return __half_as_ushort(__float2half_rn(value)); }
DEVICE float from_bits(uint32_t bits) { return __uint_as_float(bits); }
DEVICE uint32_t to_bits(float value) { return __float_as_uint(value); }
DEVICE int count_bits(unsigned value) { return __popc(value); }
DEVICE int first_bit(unsigned value) { return __ffs(value) - 1; }

// mma.sync of PTX, with its layout of fragments over lanes: c[16, 8] += a[16, K] · b[K, 8].
DEVICE void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mma_f16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
DEVICE void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

constexpr int WARP = 32;

/// bfloat16 and float16 as stored.
struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

DEVICE float widen(float x) { return x; }
DEVICE float widen(bf16 x) { return from_bits(uint32_t(x.bits) << 16); }
DEVICE float widen(f16 x) { return f16_to_f32(x.bits); }

/// To the nearest, ties to even; NaN stays NaN.
DEVICE uint16_t f32_to_bf16(float value) {
    uint32_t bits = to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return uint16_t((bits >> 16) | 0x40u);
    return uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// To the nearest float with tf32's 10 bits of mantissa, ties away from 0, as cvt.rna.tf32 does.
DEVICE uint32_t f32_to_tf32(float value) {
    uint32_t bits = to_bits(value);
    if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
    return (bits + 0x1000u) & 0xffffe000u;
}

DEVICE int lane_index() { return int(threadIdx.x) % WARP; }
DEVICE int warp_index() { return int(threadIdx.x) / WARP; }
DEVICE int warp_count() { return int(blockDim.x) / WARP; }

DEVICE float warp_sum(float x) {
    for (int mask = WARP / 2; mask > 0; mask /= 2) x += warp_xor(x, mask);
    return x;
}
/// The largest; NaN is passed over, as by Rust's `f32::max`.
DEVICE float warp_max(float x) {
    for (int mask = WARP / 2; mask > 0; mask /= 2) x = fmaxf(x, warp_xor(x, mask));
    return x;
}
/// The sum over the block, in every thread. `scratch`: a float per warp.
DEVICE float block_sum(float x, float *scratch) {
    x = warp_sum(x);
    block_sync();
    if (lane_index() == 0) scratch[warp_index()] = x;
    block_sync();
    float sum = 0.0f;
    for (int w = 0; w < warp_count(); w++) sum += scratch[w];
    return sum;
}
/// The same in float64; `scratch`: a double per warp.
DEVICE double block_sum(double x, double *scratch) {
    for (int mask = WARP / 2; mask > 0; mask /= 2) x += warp_xor(x, mask);
    block_sync();
    if (lane_index() == 0) scratch[warp_index()] = x;
    block_sync();
    double sum = 0.0;
    for (int w = 0; w < warp_count(); w++) sum += scratch[w];
    return sum;
}
/// The largest over the block, in every thread; NaN is passed over.
DEVICE float block_max(float x, float *scratch) {
    x = warp_max(x);
    block_sync();
    if (lane_index() == 0) scratch[warp_index()] = x;
    block_sync();
    for (int w = 0; w < warp_count(); w++) x = fmaxf(x, scratch[w]);
    return x;
}

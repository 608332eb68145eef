// Dropout of crates/kernels/src/training/dropout.rs: an element's fate is a function of the seed and its number.
#pragma once
#include "common.cuh"

/// As `DropoutArgument` of training.rs. `scale` 1: nothing is dropped.
struct Dropout {
    unsigned long long seed;
    /// Of an element's 32 bits those below are dropped.
    unsigned threshold;
    /// What the others are multiplied by.
    float scale;
};

DEVICE unsigned long long finish_mix(unsigned long long z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
DEVICE unsigned short_mix(unsigned x) {
    x ^= x >> 16;
    x *= 0x21f0aaadu;
    x ^= x >> 15;
    x *= 0x735a2d97u;
    return x ^ (x >> 15);
}
/// 0 or the scale.
DEVICE float kept(const Dropout &d, unsigned long long number) {
    if (d.scale == 1.0f) return 1.0f;
    unsigned long long keys = finish_mix((d.seed ^ ((number >> 32) * 0xd1b54a32d192ed03ull)) + 0x9e3779b97f4a7c15ull);
    unsigned bits = short_mix(short_mix(unsigned(number) ^ unsigned(keys)) + unsigned(keys >> 32));
    return bits < d.threshold ? 0.0f : d.scale;
}

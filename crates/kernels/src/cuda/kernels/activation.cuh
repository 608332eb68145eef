// The activation functions of crates/kernels/src/activation.rs and their derivatives, by the same numbers (activation.rs
// beside this folder gives them).
#pragma once

#include "common.cuh"

DEVICE float sigmoid_of(float x) { return 1.0f / (1.0f + expf(-x)); }
DEVICE float softplus_of(float x) { return x > 20.0f ? x : log1pf(expf(x)); }
DEVICE float gelu_of(float x) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }
DEVICE float gelu_slope(float x) {
    return 0.5f * (1.0f + erff(x * 0.70710678118654752f)) + x * 0.39894228040143268f * expf(-0.5f * x * x);
}

constexpr float GELU_C = 0.79788456080286536f, GELU_A = 0.044715f;
constexpr float LAPLACE_MU = 0.707107f, LAPLACE_SIGMA = 0.282095f * 1.41421356237309505f;

enum Activation {
    RELU, RELU2, RELU6, LEAKY_RELU, GELU, GELU_TANH, GELU_10, QUICK_GELU, SILU, HARD_SWISH, MISH, TANH, SIGMOID, LAPLACE,
    SQRT_SOFTPLUS, IDENTITY
};

// Not inlined: products have their epilogue 64 times over.
// Comparisons rather than fmaxf: NaN passes through.
DEVICE_CALL float activate_rare(int act, float x) {
    switch (act) {
    case RELU2: return x < 0.0f ? 0.0f : x * x;
    case RELU6: return x > 6.0f ? 6.0f : x < 0.0f ? 0.0f : x;
    case LEAKY_RELU: return x < 0.0f ? 0.01f * x : x;
    case GELU: return gelu_of(x);
    case GELU_TANH: return 0.5f * x * (1.0f + tanhf(GELU_C * (x + GELU_A * x * x * x)));
    case GELU_10: {
        float y = gelu_of(x);
        return y < -10.0f ? -10.0f : y > 10.0f ? 10.0f : y;
    }
    case QUICK_GELU: return x * sigmoid_of(1.702f * x);
    case SILU: return x * sigmoid_of(x);
    case HARD_SWISH: return x <= -3.0f ? 0.0f : x >= 3.0f ? x : x * (x + 3.0f) / 6.0f;
    case MISH: return x * tanhf(softplus_of(x));
    case TANH: return tanhf(x);
    case SIGMOID: return sigmoid_of(x);
    case LAPLACE: return 0.5f * (1.0f + erff((x - LAPLACE_MU) / LAPLACE_SIGMA));
    case SQRT_SOFTPLUS: return sqrtf(softplus_of(x));
    default: return x;
    }
}

DEVICE float activate(int act, float x) {
    if (act == IDENTITY) return x;
    if (act == RELU) return x < 0.0f ? 0.0f : x;
    return activate_rare(act, x);
}

/// dy/dx at x. At a corner the side that PyTorch takes.
DEVICE float activation_slope(int act, float x) {
    switch (act) {
    case RELU: return x > 0.0f ? 1.0f : 0.0f;
    case RELU2: return x > 0.0f ? 2.0f * x : 0.0f;
    case RELU6: return x > 0.0f && x < 6.0f ? 1.0f : 0.0f;
    case LEAKY_RELU: return x > 0.0f ? 1.0f : 0.01f;
    case GELU: return gelu_slope(x);
    case GELU_TANH: {
        float t = tanhf(GELU_C * (x + GELU_A * x * x * x));
        return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * GELU_C * (1.0f + 3.0f * GELU_A * x * x);
    }
    case GELU_10: {
        float y = gelu_of(x);
        return y < -10.0f || y > 10.0f ? 0.0f : gelu_slope(x);
    }
    case QUICK_GELU: {
        float s = sigmoid_of(1.702f * x);
        return s + 1.702f * x * s * (1.0f - s);
    }
    case SILU: {
        float s = sigmoid_of(x);
        return s + x * s * (1.0f - s);
    }
    case HARD_SWISH: return x <= -3.0f ? 0.0f : x >= 3.0f ? 1.0f : x / 3.0f + 0.5f;
    case MISH: {
        float t = tanhf(softplus_of(x));
        return t + x * (1.0f - t * t) * sigmoid_of(x);
    }
    case TANH: {
        float t = tanhf(x);
        return 1.0f - t * t;
    }
    case SIGMOID: {
        float s = sigmoid_of(x);
        return s * (1.0f - s);
    }
    case LAPLACE: {
        float u = (x - LAPLACE_MU) / LAPLACE_SIGMA;
        return expf(-u * u) * 0.56418958354775629f / LAPLACE_SIGMA;
    }
    case SQRT_SOFTPLUS: return x > 20.0f ? 0.5f / sqrtf(x) : 0.5f * sigmoid_of(x) / sqrtf(log1pf(expf(x)));
    default: return 1.0f;
    }
}

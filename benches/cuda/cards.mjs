/** Dense bfloat16 peaks and memory bandwidths from NVIDIA's data sheets of the cards. The first that matches counts. */
export const CARDS = [
  { match: /B200/, bf16_tflops: 2250, gb_per_s: 8000 },
  { match: /H200/, bf16_tflops: 989, gb_per_s: 4800 },
  { match: /H100.*PCIe/i, bf16_tflops: 756, gb_per_s: 2000 },
  { match: /H100/, bf16_tflops: 989, gb_per_s: 3350 },
  { match: /L40S/, bf16_tflops: 362, gb_per_s: 864 },
  { match: /A100.*80/, bf16_tflops: 312, gb_per_s: 2039 },
  { match: /A100/, bf16_tflops: 312, gb_per_s: 1555 },
  { match: /\bL4\b/, bf16_tflops: 121, gb_per_s: 300 },
  { match: /A10\b/, bf16_tflops: 125, gb_per_s: 600 },
]

/** Quantised checkpoints: making them, and measuring what they lose. Node only. */

export {
  QUANTIZED_DTYPES,
  type QuantizedDtype,
  type QuantizeOptions,
  type QuantizeProgress,
  type QuantizeResult,
  quantize_checkpoint,
} from './checkpoint.js'
export { parse_pairs, type TextPair } from './pairs.js'
export { compare_quality, format_quality_report, type QualityOptions, type QualityReport } from './quality.js'

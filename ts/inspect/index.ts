/** Looking into checkpoints and checking results. Node only. */

export { EMBEDDED_MODEL, embedded_model_path } from './embedded.js'
export {
  type CheckpointSummary,
  type DtypeSummary,
  type InspectOptions,
  inspect_checkpoint,
} from './inspect_checkpoint.js'
export { type ParameterSummary, type StackSummary, summarize_parameters } from './parameters.js'
export { SIZES, type SizeName, size_config } from './presets.js'
export { type Check, type PathReport, type VerifyOptions, type VerifyReport, verify } from './verify/index.js'

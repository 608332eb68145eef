export { GenerationConfig } from './configuration.js'
export { type FilledSpans, type FillSpansOptions, fill_spans } from './fill_spans.js'
export { GenerateOutput } from './generate.js'
export { LogitsProcessor, type LogitsProcessorFunction, LogitsProcessorList } from './logits_process.js'
export type { GenerationOptions } from './options.js'
export type { GenerateArguments, GenerateExtras, GenerateInputs } from './prepare.js'
export {
  InterruptableStoppingCriteria,
  StoppingCriteria,
  type StoppingCriteriaFunction,
  StoppingCriteriaList,
  StopStringCriteria,
} from './stopping_criteria.js'
export type { StreamedToken } from './stream.js'
export { BaseStreamer, TextStreamer, type TextStreamerOptions } from './streamers.js'

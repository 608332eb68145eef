export type { AdapterOptions } from './adapters.js'
export { AutoConfig, AutoModel, AutoModelForSeq2SeqLM } from './auto.js'
export { mean_pooling, normalize } from './embedding.js'
export type { ConditionalGenerationInputs, EncoderInputs, Seq2SeqInputs } from './forward.js'
export type { EncoderOutputs } from './inputs.js'
export type { ModelOptions, ModelProgressEvent, PretrainedOptions } from './loading.js'
export { estimate_memory, type MemoryEstimate, type MemoryOptions, type MemoryRequest } from './memory.js'
export type { DtypeName } from './options.js'
export { ModelOutput, MoEModelOutput, Seq2SeqMoEModelOutput, Seq2SeqMoEOutput } from './outputs.js'
export { PastKeyValues } from './past_key_values.js'
export { type InitOptions, type ModelInfo, PreTrainedModel } from './pretrained_model.js'
export type { SaveOptions } from './saving.js'
export { ScoreOutput } from './scoring.js'
export {
  type ModuleInputs,
  type RouterOutput,
  type ScoreInputs,
  SwitchTransformersEncoderModel,
  SwitchTransformersForConditionalGeneration,
  SwitchTransformersModel,
  SwitchTransformersPreTrainedModel,
  SwitchTransformersSparseMLP,
  SwitchTransformersTop1Router,
} from './switch_transformers.js'

/** Everything that users see, whatever they run on. The entries add what their platform needs. */

export type { Architecture, RoutingPolicy } from './backend/contract.js'
export { type BackendName, type BackendOptions, type DeviceName, terminate_backends } from './backend/select.js'
export { type ConfigFault, SwitchTransformersConfig, type SwitchTransformersConfigValues } from './configuration.js'
export { type Environment, env } from './env.js'
export {
  AbortError,
  BackendError,
  type BackendErrorCode,
  CheckpointError,
  type CheckpointErrorCode,
  ConfigError,
  DisposedError,
  type DisposedErrorCode,
  ERROR_CODES,
  type ErrorCode,
  type ErrorOptions,
  FileError,
  type FileErrorCode,
  HubError,
  type HubErrorCode,
  InputError,
  InternalError,
  OptionError,
  type OptionErrorCode,
  SwitchTransformersError,
  TokenizerError,
  TrainingError,
} from './errors.js'
export * from './generation/index.js'
export {
  type CachedFile,
  type CachedRepository,
  type CachedRevision,
  type CacheOptions,
  clear_cached,
  list_cached,
  type ProgressCallback,
  type ProgressEvent,
  type RepositoryOptions,
} from './hub/index.js'
export * from './models/index.js'
export * from './pipelines/index.js'
export * from './tensor.js'
export * from './tokenizer/index.js'
export * from './training/index.js'

/** LoRA adapters as folders. */

export { type MergeOptions, type MergeResult, merge_adapter } from './merge.js'

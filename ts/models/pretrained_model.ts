/** What all models share: loading, initialising, saving, counting, and being freed. */

import '../utils/dispose_symbols.js'

import type { Architecture, Backend, Operations } from '../backend/contract.js'
import { unwire } from '../backend/wire.js'
import type { SwitchTransformersConfig, SwitchTransformersConfigValues } from '../configuration.js'
import type { GenerationConfig } from '../generation/configuration.js'
import type { Tensor } from '../tensor.js'
import { Callable } from '../utils/callable.js'
import type { AdapterOptions } from './adapters.js'
import { BackendHandle } from './handle.js'
import { load_model, type ModelOptions, type PretrainedOptions } from './loading.js'
import type { SaveOptions } from './saving.js'

export type ModelInfo = Operations['model_info']['reply']

export interface InitOptions extends ModelOptions {
  /** Where the random weights start: the same seed gives the same weights on every backend. Default 0. */
  seed?: number
  /** `reference` (default): as the reference initialises. `paper`: a truncated normal of a tenth of that scale. */
  initializer?: 'reference' | 'paper'
}

/** @internal What a class is made from. */
export interface ModelParts {
  backend: Backend
  model: number
  config: SwitchTransformersConfig
  generation_config: GenerationConfig
  name_or_path: string
  info: ModelInfo
}

interface ModelClass<T> {
  new (parts: ModelParts): T
  readonly architecture: Architecture
}

/** The base of all models. Get one by `from_pretrained` or `from_config` of its class. */
export abstract class PreTrainedModel<Inputs = never, Output = unknown> extends Callable<
  [inputs: Inputs],
  Promise<Output>
> {
  /** The reference's name of the class; constant under minification. */
  static readonly architecture: Architecture

  readonly config: SwitchTransformersConfig
  /** The options that `generate` starts from; change them, or replace them. */
  generation_config: GenerationConfig
  /** The name or path that it was loaded by; empty for a new model. */
  readonly name_or_path: string
  /** @internal */
  readonly handle: BackendHandle
  /** @internal What the backend said last; `refresh_info` asks again. */
  info: ModelInfo

  /** @internal */
  constructor(parts: ModelParts) {
    super()
    this.config = parts.config
    this.generation_config = parts.generation_config
    this.name_or_path = parts.name_or_path
    this.handle = new BackendHandle(parts.backend, parts.model, `This ${parts.info.architecture}`)
    this.info = parts.info
  }

  /**
   * Loads a checkpoint from the hub or from a folder.
   *
   * @throws The hub's errors, `FILE_NOT_FOUND`, `INVALID_CONFIG`, the `CHECKPOINT_…` errors, `OUT_OF_MEMORY`,
   * `BACKEND_UNAVAILABLE`, and `ABORTED` when `signal` fires. Nothing is left in memory then.
   */
  static async from_pretrained<T>(
    this: ModelClass<T>,
    pretrained_model_name_or_path: string,
    options: PretrainedOptions = {},
  ): Promise<T> {
    // biome-ignore lint/complexity/noThisInStatic: this is the subclass that it is called on.
    return new this(await load_model(this.architecture, pretrained_model_name_or_path, options))
  }

  /** A model with random weights. */
  static async from_config<T>(
    this: ModelClass<T>,
    config: SwitchTransformersConfig | SwitchTransformersConfigValues,
    options: InitOptions = {},
  ): Promise<T> {
    // A chunk of its own: most models are loaded.
    const { init_model } = await import('./initialising.js')
    // biome-ignore lint/complexity/noThisInStatic: this is the subclass that it is called on.
    return new this(await init_model(this.architecture, config, options))
  }

  /** The backend that it runs on. */
  get backend(): 'native' | 'wasm' {
    return this.handle.backend.name
  }

  /** Where arithmetic is done. */
  get device(): 'cpu' | `cuda:${number}` {
    return this.info.device as 'cpu' | `cuda:${number}`
  }

  /** What most of its weights are kept as. */
  get dtype(): string {
    const [most] = Object.entries(this.info.dtypes).sort(([, a], [, b]) => b - a)
    return most?.[0] ?? 'float32'
  }

  /** Bytes of its weights. */
  get weight_bytes(): number {
    return this.info.weight_bytes
  }

  get disposed(): boolean {
    return this.handle.disposed
  }

  /** Parameters in all, or those that a token passes through (one expert of each sparse layer). */
  num_parameters({ active = false }: { active?: boolean } = {}): number {
    return active ? this.info.parameters_active : this.info.parameters
  }

  /** Parameters by name, as float32. All of them, or those named. */
  async state_dict(names?: readonly string[]): Promise<Record<string, Tensor>> {
    const request = { model: this.handle.id, ...(names !== undefined && { names: [...names] }) }
    const { tensors } = await this.handle.call('model_parameters', request)
    return Object.fromEntries(tensors.map((tensor) => [tensor.name, unwire(tensor)]))
  }

  /**
   * Writes `config.json`, `generation_config.json` and the weights as safetensors, sharded, in the form that the
   * reference loads: into a folder in Node, into one of the origin private file system in browsers.
   */
  async save_pretrained(save_directory: string, options: SaveOptions = {}): Promise<void> {
    const { architecture } = this.info
    // A chunk of its own: few pages save.
    const { save_model } = await import('./saving.js')
    await save_model(this.handle, save_directory, this.config, this.generation_config, architecture, options)
  }

  /**
   * Adds the LoRA adapters of a folder or a hub repository (PEFT's layout: `adapter_config.json`,
   * `adapter_model.safetensors`) to the weights, which become float32. Those of an earlier call are taken away.
   *
   * @throws {CheckpointError} `CHECKPOINT_MISMATCH` naming what does not fit this model, `CHECKPOINT_UNSUPPORTED` for other
   * kinds of adapters and quantised weights; the hub's errors. The model stays as it was then.
   */
  async load_adapter(name_or_path: string, options: AdapterOptions = {}): Promise<void> {
    await (await import('./adapters.js')).load_adapter(this, name_or_path, options)
  }

  /** Takes the adapters away that `load_adapter` added, or, with `merge`, keeps them for good. */
  async unload_adapter({ merge = false }: { merge?: boolean } = {}): Promise<void> {
    await (await import('./adapters.js')).unload_adapter(this, merge)
  }

  /** Makes loaded adapters a part of the weights, so that `save_pretrained` writes a model that needs no adapter. */
  async merge_adapters(): Promise<void> {
    await this.unload_adapter({ merge: true })
  }

  /**
   * Frees the weights at once. Calls under way end as if nothing had happened, except that generations end with a
   * `DisposedError` at their next step; later calls throw it. A second call does nothing.
   */
  async dispose(): Promise<void> {
    await this.handle.dispose()
  }

  [Symbol.dispose](): void {
    void this.dispose().catch(() => {})
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }
}

/** A training in the backend: its operations on one handle, and its files. */

import type { Backend, Source, WireTensor } from '../backend/contract.js'
import type { StepReport, TrainingOperations, TrainingOptions } from '../backend/training_contract.js'
import { mark_changed } from '../models/adapters.js'
import { BackendHandle } from '../models/handle.js'
import { refresh_info } from '../models/info.js'
import type { PreTrainedModel } from '../models/pretrained_model.js'
import type { StoredFile } from './store/store.js'

/** Bytes of a planned file that are read at a time. */
const READ_BYTES = 8 * 2 ** 20

export type TrainingPart = TrainingOperations['training_restore']['request']['part']

export type StartReply = TrainingOperations['training_start']['reply']

export class TrainingEngine {
  readonly info: StartReply
  readonly #handle: BackendHandle
  readonly #model: BackendHandle

  readonly #quantised: () => boolean

  private constructor(model: PreTrainedModel, info: StartReply) {
    this.#model = model.handle
    this.info = info
    this.#handle = new BackendHandle(model.handle.backend, info.training, 'This training')
    this.#quantised = () => Boolean(model.config.quantization_config)
  }

  static async start(model: PreTrainedModel, options: TrainingOptions): Promise<TrainingEngine> {
    const { reply } = await model.handle.call('training_start', { model: model.handle.id, options })
    const engine = new TrainingEngine(model, reply)
    try {
      // What is trained is float32 from now on.
      await refresh_info(model)
    } catch (error) {
      await engine.dispose()
      throw error
    }
    if (!options.lora) mark_changed(model)
    return engine
  }

  get backend(): Backend {
    return this.#handle.backend
  }

  async step(tensors: WireTensor[], step: number, loss_scale: number): Promise<StepReport> {
    const request = { training: this.#handle.id, step, loss_scale }
    return (await this.#handle.call('training_step', request, tensors)).reply
  }

  async evaluate(tensors: WireTensor[]): Promise<StepReport> {
    return (await this.#handle.call('training_evaluate', { training: this.#handle.id }, tensors)).reply
  }

  async update(learning_rate: number, max_grad_norm: number | null) {
    const request = { training: this.#handle.id, learning_rate, max_grad_norm }
    return (await this.#handle.call('training_update', request)).reply
  }

  async clear_gradients(): Promise<void> {
    await this.#handle.call('training_clear_gradients', { training: this.#handle.id })
  }

  /** Modules with adapters, by their full names. */
  get adapted_modules(): string[] {
    return this.info.trainable.flatMap((name) => /^base_model\.model\.(.*)\.lora_A\.weight$/.exec(name)?.[1] ?? [])
  }

  async merge_adapters(): Promise<void> {
    await this.#handle.call('training_merge_adapters', { training: this.#handle.id })
  }

  /** The model's weights as files that the reference loads; `auto`: as they are kept, or float32 if some are quantised. */
  weight_files(dtype: 'auto' | 'float32' | 'bfloat16' | 'float16' = 'auto'): AsyncGenerator<StoredFile> {
    if (dtype === 'auto' && this.#quantised()) dtype = 'float32'

    return this.#planned(
      () => this.#handle.call('model_save_plan', { model: this.#model.id, dtype }),
      'model.safetensors',
    )
  }

  /** The optimiser's state, or the adapters. */
  part_files(part: 'optimizer' | 'adapters', metadata?: Record<string, string>): AsyncGenerator<StoredFile> {
    const request = { training: this.#handle.id, part, ...(metadata && { metadata }) }
    return this.#planned(() => this.#handle.call('training_save_plan', request), part)
  }

  /** Takes over weights, adapters or the optimiser's state from files: all of them or nothing. */
  async restore(part: TrainingPart, sources: Source[], index?: string): Promise<void> {
    const open = await this.backend.call('checkpoint_open', index === undefined ? {} : { index }, [], sources)
    const { checkpoint } = open.reply
    try {
      await this.#handle.call('training_restore', { training: this.#handle.id, checkpoint, part })
    } finally {
      await this.backend.call('release', { handle: checkpoint }).catch(() => {})
    }
  }

  async dispose(): Promise<void> {
    await this.#handle.dispose()
  }

  async *#planned(
    make: () => Promise<{ reply: { plan: number; files: { name: string; size: number }[]; index?: string } }>,
    name: string,
  ): AsyncGenerator<StoredFile, void, undefined> {
    const { plan, files, index } = (await make()).reply
    const handle = this.#handle
    try {
      for (const [number, { name: file, size }] of files.entries()) {
        yield { name: file, chunks: parts(number, size) }
      }
      if (index !== undefined) yield { name: `${name}.index.json`, chunks: [new TextEncoder().encode(index)] }
    } finally {
      await this.backend.call('release', { handle: plan }).catch(() => {})
    }

    async function* parts(file: number, size: number): AsyncGenerator<Uint8Array> {
      for (let offset = 0; offset < size; offset += READ_BYTES) {
        const length = Math.min(READ_BYTES, size - offset)
        const { tensors } = await handle.call('model_save_read', { plan, file, offset, length })
        yield tensors.find((tensor) => tensor.name === 'bytes')?.data ?? new Uint8Array()
      }
    }
  }
}

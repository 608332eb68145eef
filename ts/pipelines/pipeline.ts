/** The base of pipelines: a model and a tokenizer that are loaded, called and freed together. */

import '../utils/dispose_symbols.js'

import type { PreTrainedModel } from '../models/index.js'
import type { PreTrainedTokenizer } from '../tokenizer/index.js'
import { Callable } from '../utils/callable.js'

export interface PipelineParts<Model> {
  task: string
  model: Model
  tokenizer: PreTrainedTokenizer
}

export abstract class Pipeline<
  Model extends PreTrainedModel<never, unknown>,
  Args extends unknown[],
  Result,
> extends Callable<Args, Promise<Result>> {
  readonly task: string
  readonly model: Model
  readonly tokenizer: PreTrainedTokenizer

  constructor({ task, model, tokenizer }: PipelineParts<Model>) {
    super()
    this.task = task
    this.model = model
    this.tokenizer = tokenizer
  }

  /** Frees the model. */
  async dispose(): Promise<void> {
    await this.model.dispose()
  }

  [Symbol.dispose](): void {
    void this.dispose().catch(() => {})
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }
}

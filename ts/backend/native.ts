/** The native backend: the addon's calls, with errors made into classes again. */

import { BackendError, from_wire, InputError } from '../errors.js'
import {
  type Backend,
  type NativeBinding,
  OPERATIONS,
  type OperationName,
  type Operations,
  type Source,
  type WireTensor,
} from './contract.js'

export class NativeBackend implements Backend {
  readonly name = 'native'
  readonly failure = null
  readonly #binding: NativeBinding

  constructor(binding: NativeBinding) {
    const missing = OPERATIONS.filter((name) => typeof binding[name] !== 'function')
    if (missing.length > 0) {
      throw new BackendError(
        'BACKEND_UNAVAILABLE',
        `The native addon is of another version: it lacks ${missing.join(', ')}. Reinstall the package.`,
        { details: { missing } },
      )
    }
    this.#binding = binding
  }

  async call<N extends OperationName>(
    name: N,
    request: Operations[N]['request'],
    tensors: WireTensor[] = [],
    sources: Source[] = [],
  ): Promise<{ reply: Operations[N]['reply']; tensors: WireTensor[] }> {
    const unmapped = sources.find((source) => source.path === undefined)
    if (unmapped !== undefined) {
      throw new InputError(
        `The native backend reads files by path, and "${unmapped.name}" has none. Use backend: 'wasm'.`,
      )
    }
    try {
      const { json, tensors: out } = await this.#binding[name](JSON.stringify(request), tensors, sources)
      return { reply: JSON.parse(json) as Operations[N]['reply'], tensors: out }
    } catch (error) {
      throw from_wire(error instanceof Error ? error.message : String(error))
    }
  }

  async terminate(): Promise<void> {}
}

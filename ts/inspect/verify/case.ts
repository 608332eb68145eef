/** Runs a parity case: a checkpoint with inputs and what the reference makes of them. */

import type { Backend } from '../../backend/contract.js'
import { InputError, SwitchTransformersError, throw_if_aborted } from '../../errors.js'
import { open_repository, type Repository } from '../../hub/index.js'
import type { Tensor } from '../../tensor.js'
import { optional_json } from '../../utils/repository.js'
import { open_checkpoint } from '../checkpoint.js'
import type { Values } from '../compare.js'
import type { RouterDtype } from '../routes.js'
import { type CaseModel, load_case_model } from './case_model.js'
import { compare_gradients, GRADIENT_TOLERANCE, GRADIENTS } from './gradients.js'
import { type Check, describe_failure, failed } from './report.js'
import {
  compare_generation,
  type ExpectedGeneration,
  generation_name,
  is_plain_greedy,
  parse_generations,
} from './sequences.js'
import { compare_routes, compare_tensors, type NamedValues, outputs_for } from './tensors.js'
import { first_broken, TRACED_OUTPUTS, verify_weights } from './weights.js'

export interface CaseOptions {
  backend: Backend
  dtype: 'auto' | 'float32' | 'bfloat16' | 'float16'
  tolerance: number
  greedy_only: boolean
  /** Compare gradients too, where the folder has them. */
  grads: boolean
  signal?: AbortSignal
  /** Called before each part, with its name. */
  on_step?: (step: string) => void
}

const INPUTS = 'inputs.safetensors'
const EXPECTED = 'expected.safetensors'
const GENERATIONS = 'generation.json'

/** Every check of a case folder. What the model refuses or fails at becomes a failed check; a folder that is no case throws. */
export async function verify_case(folder: string, options: CaseOptions): Promise<Check[]> {
  const repository = await open_repository(folder, { local_files_only: true })
  try {
    const expected = await read_tensors(options.backend, repository, EXPECTED)
    const inputs = await read_tensors(options.backend, repository, INPUTS)
    const generations = parse_generations((await optional_json(repository, GENERATIONS)) ?? [], GENERATIONS)
    if (!inputs.has('input_ids')) throw new InputError(`${INPUTS} of ${folder} has no input_ids.`)
    const gradients = options.grads ? await optional_tensors(options.backend, repository, GRADIENTS) : null
    return await run(folder, repository, inputs, as_values(expected), generations, gradients, options)
  } finally {
    repository.close()
  }
}

async function run(
  folder: string,
  repository: Repository,
  inputs: ReadonlyMap<string, Tensor>,
  expected: NamedValues,
  generations: ExpectedGeneration[],
  gradients: ReadonlyMap<string, Tensor> | null,
  options: CaseOptions,
): Promise<Check[]> {
  const { backend, dtype, tolerance, greedy_only, signal, on_step } = options
  on_step?.('weights')
  let checks: Check[]
  let model: CaseModel
  try {
    checks = await verify_weights(backend, repository)
    throw_if_aborted(signal)
    model = await load_case_model(folder, { backend: backend.name, dtype, signal })
  } catch (error) {
    return [failed('load', folder, describe_failure(error))]
  }
  try {
    on_step?.('forward pass')
    checks.push(...(await run_forward(model, inputs, expected, tolerance)))
    for (const generation of generations) {
      throw_if_aborted(signal)
      on_step?.(generation_name(generation.options))
      checks.push(await run_generation(model, inputs, generation, tolerance, greedy_only))
    }
    if (gradients !== null) {
      throw_if_aborted(signal)
      on_step?.('gradients')
      checks.push(
        ...(await run_gradients(model, inputs, as_values(gradients), Math.max(tolerance, GRADIENT_TOLERANCE))),
      )
    }
    return checks
  } finally {
    await model.dispose()
  }
}

async function run_forward(
  model: CaseModel,
  inputs: ReadonlyMap<string, Tensor>,
  expected: NamedValues,
  tolerance: number,
): Promise<Check[]> {
  try {
    const outputs = await model.forward(inputs, outputs_for(expected.keys()))
    const checks = compare_tensors(expected, outputs, tolerance)
    const rule = {
      expert_capacity: model.config.expert_capacity,
      router_dtype: model.config.router_dtype as RouterDtype,
    }
    checks.push(...compare_routes(expected, outputs, rule))
    if (checks.some((check) => check.error === Number.POSITIVE_INFINITY)) {
      const where = first_broken(await model.forward(inputs, TRACED_OUTPUTS))
      if (where !== undefined) checks.push(failed('tensor', 'origin', where))
    }
    return checks
  } catch (error) {
    return [failed('tensor', 'forward pass', describe_failure(error))]
  }
}

async function run_generation(
  model: CaseModel,
  inputs: ReadonlyMap<string, Tensor>,
  generation: ExpectedGeneration,
  tolerance: number,
  greedy_only: boolean,
): Promise<Check> {
  const name = generation_name(generation.options)
  if (greedy_only && !is_plain_greedy(generation.options)) {
    return { kind: 'generation', name, status: 'skipped', detail: 'it is not plain greedy' }
  }
  try {
    const actual = await model.generate(inputs, generation.options)
    return compare_generation(generation, actual, model.eos_token_ids(generation.options), tolerance)
  } catch (error) {
    if (error instanceof SwitchTransformersError && error.code === 'UNSUPPORTED_OPTION') {
      return { kind: 'generation', name, status: 'not_run', detail: error.message }
    }
    return failed('generation', name, describe_failure(error))
  }
}

async function run_gradients(
  model: CaseModel,
  inputs: ReadonlyMap<string, Tensor>,
  expected: NamedValues,
  tolerance: number,
): Promise<Check[]> {
  try {
    return compare_gradients(expected, await model.gradients(inputs), tolerance)
  } catch (error) {
    return [failed('tensor', 'gradients', describe_failure(error))]
  }
}

/** {@link read_tensors} of a file that need not be there. */
async function optional_tensors(
  backend: Backend,
  repository: Repository,
  file: string,
): Promise<Map<string, Tensor> | null> {
  if ((await repository.read(file)) === null) return null
  return read_tensors(backend, repository, file)
}

/** All tensors of a file that lies beside the weights. */
async function read_tensors(backend: Backend, repository: Repository, file: string): Promise<Map<string, Tensor>> {
  const checkpoint = await open_checkpoint(backend, repository, [file])
  try {
    return await checkpoint.read()
  } finally {
    await checkpoint.close()
  }
}

function as_values(tensors: ReadonlyMap<string, Tensor>): Map<string, Values> {
  return new Map([...tensors].map(([name, { dims, data }]) => [name, { dims, data: data as Float32Array }]))
}

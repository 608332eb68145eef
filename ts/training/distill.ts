/**
 * The student of a distillation (Fedus et al., arXiv 2101.03961, section 4.2): what is no expert is taken over from the
 * teacher, the rest begins at random. Train it with `teacher` and `soft_label_weight: 0.25`.
 */

import { SwitchTransformersConfig } from '../configuration.js'
import { InputError } from '../errors.js'
import { GenerationConfig } from '../generation/configuration.js'
import { SwitchTransformersForConditionalGeneration } from '../models/switch_transformers.js'
import type { Tensor } from '../tensor.js'
import type { Student, StudentOptions } from './make_student.js'
import { get_training_platform } from './platform.js'
import { safetensors_chunks } from './safetensors.js'

/** Without a sparse layer. */
const DENSE = {
  num_sparse_encoder_layers: 0,
  num_sparse_decoder_layers: 0,
  encoder_sparse_step: 0,
  decoder_sparse_step: 0,
}

/** See `make_student`. */
export async function student_of(
  teacher: SwitchTransformersForConditionalGeneration,
  { config = DENSE, seed = 0 }: StudentOptions = {},
): Promise<Student> {
  const chosen = new SwitchTransformersConfig({ ...teacher.config.to_dict(), ...config, dtype: 'float32' })
  if (chosen.vocab_size !== teacher.config.vocab_size) {
    throw new InputError(
      `The student's vocab_size is ${chosen.vocab_size}, the teacher's ${teacher.config.vocab_size}: they must be the same.`,
    )
  }
  const { backend } = teacher
  const blank = await SwitchTransformersForConditionalGeneration.from_config(chosen, {
    backend,
    seed,
    dtype: 'float32',
  })
  const copied: string[] = []
  const tensors: Record<string, Tensor> = await blank.state_dict()
  await blank.dispose()
  const wanted = Object.keys(tensors).filter((name) => !name.includes('.experts.') && !name.includes('.router.'))
  const given = await teacher.state_dict()
  for (const name of wanted) {
    const tensor = given[name]
    if (tensor === undefined) continue
    const { dims } = tensors[name] as Tensor
    if (dims.length !== tensor.dims.length || dims.some((size, axis) => size !== tensor.dims[axis])) continue
    tensors[name] = tensor
    copied.push(name)
  }
  if (copied.length === 0) {
    throw new InputError('Nothing of the teacher fits the student: not one parameter has the same name and shape.')
  }
  return { model: await load(teacher, chosen, tensors), copied: copied.sort() }
}

/** A model with these parameters. They go through a file where the backend reads files only. */
async function load(
  teacher: SwitchTransformersForConditionalGeneration,
  config: SwitchTransformersConfig,
  tensors: Record<string, Tensor>,
): Promise<SwitchTransformersForConditionalGeneration> {
  const { backend } = teacher.handle
  const platform = await get_training_platform()
  const { source, remove } = await platform.temporary_source('model.safetensors', safetensors_chunks(tensors))
  try {
    const { checkpoint } = (await backend.call('checkpoint_open', {}, [], [source])).reply
    try {
      const request = {
        checkpoint,
        config: config.to_dict(),
        architecture: 'SwitchTransformersForConditionalGeneration',
        dtype: 'float32',
      } as const
      const { load } = (await backend.call('model_load_start', request)).reply
      let model: number | undefined
      while (model === undefined)
        model = (await backend.call('model_load_step', { load, max_bytes: 2 ** 26 })).reply.model
      const { reply: info } = await backend.call('model_info', { model })
      const generation_config = GenerationConfig.from_dict(teacher.generation_config.to_dict())
      return new SwitchTransformersForConditionalGeneration({
        backend,
        model,
        config,
        generation_config,
        name_or_path: '',
        info,
      })
    } finally {
      await backend.call('release', { handle: checkpoint }).catch(() => {})
    }
  } finally {
    await remove()
  }
}

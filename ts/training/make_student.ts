/** `make_student`, of which only the promise is loaded before it is used. */

import type { SwitchTransformersConfigValues } from '../configuration.js'
import type { SwitchTransformersForConditionalGeneration } from '../models/switch_transformers.js'

export interface StudentOptions {
  /** Fields in which the student differs from the teacher. Default: no sparse layers. */
  config?: SwitchTransformersConfigValues
  /** Of what begins at random. Default 0. */
  seed?: number
}

export interface Student {
  model: SwitchTransformersForConditionalGeneration
  /** Names of the parameters that the teacher gave. */
  copied: string[]
}

/**
 * Makes a student, on the teacher's backend.
 *
 * @throws {InputError} where nothing of the teacher fits the student, or their vocabularies differ; {ConfigError} for a
 * config that is none.
 */
export async function make_student(
  teacher: SwitchTransformersForConditionalGeneration,
  options: StudentOptions = {},
): Promise<Student> {
  return (await import('./distill.js')).student_of(teacher, options)
}

/** Metrics of texts by their names. */

import { InputError } from '../../errors.js'
import { bleu } from './bleu.js'
import { chrf } from './chrf.js'
import { characters, closest, error_rate, words } from './edit_distance.js'
import type { MetricName } from './names.js'
import { rouge } from './rouge.js'

type Metric = (predictions: readonly string[], references: readonly (readonly string[])[]) => number

const METRICS: Readonly<Record<MetricName, Metric>> = {
  exact_match: (predictions, references) =>
    mean(predictions.map((prediction, i) => Number((references[i] as string[]).includes(prediction)))),
  char_error_rate: (predictions, references) => error_rate(predictions, references, characters),
  word_error_rate: (predictions, references) => error_rate(predictions, references, words),
  edit_distance: (predictions, references) =>
    mean(predictions.map((prediction, i) => closest(prediction, references[i] as string[], characters).edits)),
  bleu,
  chrf,
  rouge1: (predictions, references) => rouge('rouge1', predictions, references),
  rouge2: (predictions, references) => rouge('rouge2', predictions, references),
  rougeL: (predictions, references) => rouge('rougeL', predictions, references),
  rougeLsum: (predictions, references) => rouge('rougeLsum', predictions, references),
}

/**
 * @param references Of each prediction, everything that counts as right; at least one each.
 * @throws {InputError} where there are not as many of one as of the other.
 */
export function compute_text_metrics(
  names: readonly MetricName[],
  predictions: readonly string[],
  references: readonly (readonly string[])[],
): Record<string, number> {
  if (predictions.length !== references.length || references.some((each) => each.length === 0)) {
    throw new InputError(
      `Metrics compare each prediction with its references; found ${predictions.length} predictions and ${references.length} lists of references${references.some((each) => each.length === 0) ? ', one of them empty' : ''}.`,
    )
  }
  return Object.fromEntries(names.map((name) => [name, METRICS[name](predictions, references)]))
}

function mean(values: number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length
}

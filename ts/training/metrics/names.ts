/** The metrics that evaluations know. */

/** Each between 0 and 1, or an error rate from 0 upwards; BLEU and chrF from 0 to 100, as sacrebleu gives them. */
export const METRIC_NAMES = [
  'exact_match',
  'char_error_rate',
  'word_error_rate',
  'edit_distance',
  'bleu',
  'chrf',
  'rouge1',
  'rouge2',
  'rougeL',
  'rougeLsum',
] as const

export type MetricName = (typeof METRIC_NAMES)[number]

/** Whether a metric's smaller values are the better ones, by its name. */
export function lower_is_better(name: string): boolean {
  return /loss|error|entropy|perplexity|distance/.test(name)
}

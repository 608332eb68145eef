/** How probable given targets are: log-probabilities per token and per row. */

import { Tensor } from '../tensor.js'
import { ModelOutput } from './outputs.js'

/** Labels that are left out. */
const IGNORED = -100

export class ScoreOutput extends ModelOutput {
  /** ln p of each target token given those before it, float32 [rows, tokens]; 0 where the label is -100. */
  declare token_log_probs: Tensor<'float32'>
  /** Their sums, float32 [rows]. */
  declare log_probs: Tensor<'float32'>
  /** How many tokens of each row counted, int32 [rows]. */
  declare num_tokens: Tensor<'int32'>
}

/** Log-probabilities of `labels` [rows, tokens] under `logits` [rows, tokens, vocab_size]. */
export function score_labels(logits: Tensor<'float32'>, labels: ArrayLike<number>): ScoreOutput {
  const [rows, tokens, vocab_size] = logits.dims as [number, number, number]
  const token_log_probs = new Float32Array(rows * tokens)
  const log_probs = new Float32Array(rows)
  const num_tokens = new Int32Array(rows)
  for (let row = 0; row < rows; row++) {
    let sum = 0
    for (let position = row * tokens; position < (row + 1) * tokens; position++) {
      const label = labels[position] as number
      if (label === IGNORED) continue
      const scores = logits.data.subarray(position * vocab_size, (position + 1) * vocab_size)
      const log_prob = (scores[label] as number) - log_sum_exp(scores)
      token_log_probs[position] = log_prob
      sum += log_prob
      num_tokens[row]!++
    }
    log_probs[row] = sum
  }
  const output = new ScoreOutput()
  output.token_log_probs = new Tensor('float32', token_log_probs, [rows, tokens])
  output.log_probs = new Tensor('float32', log_probs, [rows])
  output.num_tokens = new Tensor('int32', num_tokens, [rows])
  return output
}

function log_sum_exp(scores: Float32Array): number {
  let largest = Number.NEGATIVE_INFINITY
  for (const score of scores) if (score > largest) largest = score
  if (!Number.isFinite(largest)) return largest
  let sum = 0
  for (const score of scores) sum += Math.exp(score - largest)
  return largest + Math.log(sum)
}

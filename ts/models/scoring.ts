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

/** Sums log-probabilities [rows, tokens] over the labels that count. */
export function to_scores(token_log_probs: Tensor<'float32'>, labels: ArrayLike<number>): ScoreOutput {
  const [rows, tokens] = token_log_probs.dims as [number, number]
  const log_probs = new Float32Array(rows)
  const num_tokens = new Int32Array(rows)
  for (let row = 0; row < rows; row++) {
    let sum = 0
    for (let position = row * tokens; position < (row + 1) * tokens; position++) {
      if (labels[position] === IGNORED) continue
      sum += token_log_probs.data[position]!
      num_tokens[row]!++
    }
    log_probs[row] = sum
  }
  const output = new ScoreOutput()
  output.token_log_probs = token_log_probs
  output.log_probs = new Tensor('float32', log_probs, [rows])
  output.num_tokens = new Tensor('int32', num_tokens, [rows])
  return output
}

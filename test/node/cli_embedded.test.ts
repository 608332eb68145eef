import { readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { evaluate, parse_rows } from '../../benches/facade/g2p_score.mjs'
import {
  AutoTokenizer,
  embedded_model_path,
  SwitchTransformersForConditionalGeneration,
  terminate_backends,
} from '../../ts/entry/node.js'

const rows = parse_rows(readFileSync(path.join(import.meta.dirname, '../fixtures/g2p/test-300.tsv'), 'utf8'))

afterAll(terminate_backends)

describe.each(['native', 'wasm'] as const)('the embedded model on %s', (backend) => {
  test.each([
    ['greedy', 1],
    ['beam4', 4],
  ] as const)("gives the reference's answers to 300 held-back words (%s)", async (answers, num_beams) => {
    const tokenizer = await AutoTokenizer.from_pretrained(embedded_model_path())
    const model = await SwitchTransformersForConditionalGeneration.from_pretrained(embedded_model_path(), { backend })
    try {
      const inputs = tokenizer(
        rows.map((row) => row.word),
        { padding: true },
      )
      const ids = await model.generate({ ...inputs, num_beams })
      const result = evaluate(rows, tokenizer.batch_decode(ids, { skip_special_tokens: true }), answers)
      expect(result.differing).toEqual([])
      // About the rates on all 6,319 words: 0.115 and 0.404 greedily.
      expect(result.phoneme_error_rate).toBeLessThan(0.15)
      expect(result.word_error_rate).toBeLessThan(0.5)
    } finally {
      await model.dispose()
    }
  })
})

test('error rates take the closest pronunciation', () => {
  const [row] = parse_rows('word\tpronunciations\tgreedy\tbeam4\nx\tA B C | A B\tA B\tA\n')
  expect(evaluate([row!], ['A B'], 'greedy')).toMatchObject({ equal: 1, phoneme_error_rate: 0, word_error_rate: 0 })
  expect(evaluate([row!], ['A C'], 'greedy')).toMatchObject({ equal: 0, phoneme_error_rate: 1 / 3, word_error_rate: 1 })
  expect(evaluate([row!], [''], 'greedy')).toMatchObject({ phoneme_error_rate: 1 })
})

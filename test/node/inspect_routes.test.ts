import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SwitchTransformersForConditionalGeneration, type Tensor, terminate_backends } from '../../ts/entry/node.js'
import { reference_routes } from '../../ts/inspect/routes.js'
import { token_routes } from '../../ts/inspect/token_routes.js'

const input_ids = [5, 6, 7, 8, 9, 1]

afterAll(terminate_backends)

// Experts of the second one take two tokens a call: a single pass over the output would drop some, generation drops none.
describe.each(['base', 'capacity-drop'])('routes of the case %s', (name) => {
  let model: SwitchTransformersForConditionalGeneration
  beforeAll(async () => {
    const folder = path.join(import.meta.dirname, '../fixtures/parity', name)
    model = await SwitchTransformersForConditionalGeneration.from_pretrained(folder)
  })
  afterAll(() => model.dispose())

  test('are those that generation itself takes', async () => {
    const { sequences, encoder_router_logits, decoder_router_logits } = await model.generate({
      input_ids: [input_ids],
      max_new_tokens: 9,
      min_new_tokens: 9,
      output_router_logits: true,
      return_dict_in_generate: true,
    })
    const sequence = (sequences.tolist() as bigint[][])[0]!.map(Number)
    const routes = await token_routes(model, input_ids, sequence)
    const rule = { expert_capacity: model.config.expert_capacity }
    const decide = (logits: Tensor) => [
      ...reference_routes({ dims: logits.dims, data: logits.data as Float32Array }, rule),
    ]

    expect(routes.encoder.ids).toEqual(input_ids)
    expect(routes.encoder.layers.map(({ layer }) => layer)).toEqual([1, 3])
    expect(routes.encoder.layers.map(({ experts }) => experts)).toEqual(encoder_router_logits?.map(decide))

    const steps = decoder_router_logits as Tensor[][]
    expect(routes.decoder.ids).toEqual(sequence.slice(0, -1))
    const by_layer = [0, 1].map((i) => steps.flatMap((layers) => decide(layers[i] as Tensor)))
    expect(routes.decoder.layers.map(({ experts }) => experts)).toEqual(by_layer)
    expect(by_layer.flat()).not.toContain(-1)
  })
})

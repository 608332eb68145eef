/** The report page: every curve that the log has, nothing from elsewhere, and no way out of its data. */

import { expect, test } from 'vitest'
import { training_report } from '../../ts/entry/node.js'
import { parse_log } from '../../ts/training/log.js'
import { figures_of, load_maps_of, load_variation } from '../../ts/training/report/figures.js'

const layers = (load: number[], dropped = 0) => [{ stack: 'encoder', layer: 1, load, dropped }]
const LOG = [
  {
    type: 'train',
    step: 10,
    epoch: 0.5,
    loss: 3,
    cross_entropy: 2.9,
    learning_rate: 1e-3,
    grad_norm: 900,
    encoder_aux_loss: 1.2,
    drop_rate: 0,
    layers: layers([9, 1]),
  },
  { type: 'eval', step: 10, epoch: 0.5, eval_loss: 2.5, eval_bleu: 12, eval_exact_match: 0.1, eval_runtime: 3 },
  {
    type: 'train',
    step: 20,
    epoch: 1,
    loss: 2,
    cross_entropy: 1.9,
    learning_rate: 5e-4,
    grad_norm: 2,
    encoder_aux_loss: 1,
    drop_rate: 0.1,
    layers: layers([5, 5], 1),
  },
  { type: 'end', step: 20, epoch: 1, ended_by: 'max_steps', train_loss: 2.5 },
]

test('has a figure for whatever was logged, and none for what was not', () => {
  const figures = figures_of(LOG)
  const titles = figures.map(({ title }) => title)
  expect(titles).toEqual([
    'Loss',
    'Evaluation, scores to 100',
    'Evaluation',
    'Learning rate',
    'Gradient norm',
    'Load-balancing loss',
    'Dropped tokens',
    'Dropped tokens, by layer',
  ])
  expect(figures.at(-1)).toMatchObject({ steps: [10, 20], lines: [{ name: 'encoder, layer 1', values: [0, 0.1] }] })
  expect(figures[0]).toMatchObject({
    steps: [10, 20],
    lines: [
      { name: 'training', values: [3, 2] },
      { name: 'training, cross entropy', values: [2.9, 1.9] },
      { name: 'evaluation', values: [2.5, null] },
    ],
    logarithmic: false,
  })
  expect(figures.find(({ title }) => title === 'Gradient norm')?.logarithmic).toBe(true)
})

test('has the shares of every expert over time', () => {
  expect(load_maps_of(LOG)).toEqual([
    {
      title: 'encoder, layer 1',
      steps: [10, 20],
      shares: [
        [0.9, 0.1],
        [0.5, 0.5],
      ],
      dropped: [0, 0.1],
    },
  ])
  expect(load_variation([0.5, 0.5])).toBe(0)
  expect(load_variation([1, 0])).toBe(1)
})

test('is one page that loads nothing and cannot be broken out of', async () => {
  const html = await training_report(
    [
      ...LOG,
      {
        step: 30,
        epoch: 2,
        type: 'train',
        loss: 1,
        layers: [{ stack: '</script><script>alert(1)</script>', layer: 1, load: [1], dropped: 0 }],
      },
    ],
    {
      title: '<b>"my" & model</b>',
      args: { output_dir: '<i>', lr_scheduler_type: () => 1, lora: null },
    },
  )
  expect(html).not.toMatch(/<(?:script|link|img)[^>]+(?:src|href)="(?!data:)/)
  expect(html).not.toContain('alert(1)</script>')
  expect(html).toContain('<h1>&#60;b&#62;&#34;my&#34; &#38; model&#60;/b&#62;</h1>')
  expect(html).toContain('<td>&#60;i&#62;</td>')
  expect(html).not.toContain('<td>lora</td>')
  expect(html).toContain('MIT licence')
})

test('of an empty log says so', async () => {
  expect(await training_report('')).toContain('Nothing has been logged yet.')
})

test('lines that were cut off are left out of a log', () => {
  expect(parse_log('{"step":1,"epoch":0}\n{"step":2,"ep')).toEqual([{ step: 1, epoch: 0 }])
  expect(parse_log('')).toEqual([])
})

/** What is compared with what: models, precisions, and the sides beside ours. */

export const COMPARISONS = [
  { name: 'transformers', model: 'base-8', dtypes: ['float32', 'bfloat16'], peers: ['eager', 'compiled'] },
  // No peer has these: what counts is the fraction of the machine's limit.
  { name: 'quantised', model: 'base-8', dtypes: ['int8', 'int4'], peers: [] },
  { name: 'dense', model: 'dense', dtypes: ['float32', 'int8'], peers: ['onnxruntime', 'ctranslate2', 'candle'] },
]

const same = (bar, ...names) => Object.fromEntries(names.map((name) => [name, bar]))
const ENCODE = ['encode 1×128', 'encode 1×512', 'encode 8×128']
const GENERATE_1 = 'generate 33 after 64, batch 1'
const GENERATE_8 = 'generate 33 after 64, batch 8'

/** Bars: the ratio to a peer (`transformers`: to its fastest mode) by precision and case. */
const RATIOS = {
  transformers: {
    float32: { ...same(2.2, ...ENCODE), [GENERATE_1]: 3, [GENERATE_8]: 3 },
    bfloat16: {
      'encode 1×128': 1.6,
      'encode 1×512': 1.3,
      'encode 8×128': 1.1,
      [GENERATE_1]: 2.5,
      [GENERATE_8]: 2.2,
    },
  },
  onnxruntime: { float32: same(1, ...ENCODE) },
  ctranslate2: { int8: { 'encode 1×512': 1.1, [GENERATE_1]: 3 } },
}

export const ratio_bar = (peer, dtype, case_name) => RATIOS[peer]?.[dtype]?.[case_name]

/** Bars: what part of the machine's limit ours reaches, of base-8. */
const FRACTIONS = {
  [GENERATE_1]: { float32: 0.8, bfloat16: 0.8, int8: 0.7, int4: 0.6 },
  'encode 1×512': { float32: 0.75, bfloat16: 0.65, int8: 0.5 },
}

export const fraction_bar = (dtype, case_name) => FRACTIONS[case_name]?.[dtype]

/**
 * What `save_pretrained` writes loads in PyTorch `transformers` with equal logits: `npm run bench:save`. Small random
 * models, tied and untied, in float32, bfloat16 and float16, in one file and in shards. Arithmetic is float32 on both
 * sides, so that logits can be compared to 1e-5. Exits 1 when one differs or a tensor is missing or unexpected.
 */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SwitchTransformersForConditionalGeneration as Model } from 'switch-transformers'
import { peers_python, require_build, root } from './environment.mjs'
import { relative_error, some_ids } from './statistics.mjs'
import { Worker } from './worker.mjs'

const TOLERANCE = 1e-5
const VOCABULARY = 500

const config = (tied, dense_act_fn) => ({
  vocab_size: VOCABULARY,
  d_model: 64,
  d_kv: 16,
  d_ff: 128,
  num_layers: 4,
  num_decoder_layers: 4,
  num_sparse_encoder_layers: 2,
  num_sparse_decoder_layers: 2,
  num_heads: 4,
  num_experts: 4,
  expert_capacity: 8,
  tie_word_embeddings: tied,
  dense_act_fn,
})

require_build()
const reference = new Worker('transformers', peers_python(), [join(root, 'benches/peers/transformers_worker.py')])
const scratch = mkdtempSync(join(tmpdir(), 'switch-transformers-save-'))
const ids = some_ids(2, 24, 1, VOCABULARY)
const decoder_ids = some_ids(2, 9, 2, VOCABULARY)

function floats(file) {
  const bytes = readFileSync(file)
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4)
}

async function check({ dtype, tied, sharded, act }) {
  const folder = join(scratch, [dtype, tied, sharded, act].join('-'))
  const model = await Model.from_config(config(tied, act), { dtype, seed: 7 })
  await model.save_pretrained(folder, sharded ? { max_shard_size: '200KB' } : {})
  const { logits } = await model.forward({ input_ids: ids, decoder_input_ids: decoder_ids })
  await model.dispose()
  const files = readdirSync(folder).filter((name) => name.endsWith('.safetensors')).length
  const { missing, unexpected, version } = await reference.ask({ op: 'load', folder, dtype: 'float32' })
  const save = join(scratch, 'logits')
  await reference.ask({ op: 'forward', ids, decoder_ids, save })
  const error = relative_error(logits.data, floats(save))
  const good = error <= TOLERANCE && missing.length + unexpected.length === 0 && sharded === files > 1
  const tensors = [...missing.map((name) => `missing ${name}`), ...unexpected.map((name) => `unexpected ${name}`)]
  console.log(
    `${good ? 'equal  ' : 'DIFFERS'} ${dtype}, ${tied ? 'tied' : 'untied'}, ${files} file${files > 1 ? 's' : ''}, ${act}: relative error ${error.toExponential(1)}${tensors.length > 0 ? `; ${tensors.join(', ')}` : ''}`,
  )
  return { good, version }
}

let version
try {
  for (const act of ['relu', 'silu']) {
    for (const dtype of ['float32', 'bfloat16', 'float16']) {
      for (const tied of [true, false]) {
        for (const sharded of [false, true]) {
          const result = await check({ dtype, tied, sharded, act })
          version = result.version
          if (!result.good) process.exitCode = 1
        }
      }
    }
  }
  console.log(`${process.exitCode ? 'some differ' : 'all equal'} (transformers ${version}, tolerance ${TOLERANCE})`)
} finally {
  await reference.close()
  rmSync(scratch, { recursive: true, force: true })
}

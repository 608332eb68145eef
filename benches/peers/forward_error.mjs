/**
 * How far the logits of base-8 are from those of PyTorch `transformers`: `npm run bench:forward-error [-- --dtype
 * float32,bfloat16]`. 64 tokens in, 33 into the decoder, one forward pass. In bfloat16 the reference is float32 arithmetic
 * on the same weights, and the peer's own bfloat16 stands beside ours. Exits 1 past 1e-5.
 */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { checkpoint, peers_python, require_build, root } from './environment.mjs'
import { relative_error, some_ids } from './statistics.mjs'
import { Worker } from './worker.mjs'

const TOLERANCE = 1e-5
const ROWS = 2

const { values: options } = parseArgs({
  options: {
    dtype: { type: 'string', default: 'float32' },
    backend: { type: 'string', default: 'native' },
  },
})

require_build()
const python = peers_python()
const scratch = mkdtempSync(join(tmpdir(), 'switch-transformers-forward-'))
const script = (name) => join(root, 'benches/peers', name)

async function logits(name, command, args, load) {
  const worker = new Worker(name, command, args)
  const save = join(scratch, 'logits')
  const version = await worker.ask({ op: 'load', ...load })
  await worker.ask({ op: 'forward', ids: some_ids(ROWS, 64), decoder_ids: some_ids(ROWS, 33, 2), save })
  await worker.close()
  const bytes = readFileSync(save)
  return { values: new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4), version }
}

const peer = (folder, dtype) => logits('transformers', python, [script('transformers_worker.py')], { folder, dtype })

try {
  for (const dtype of options.dtype.split(',')) {
    const folder = checkpoint('base-8', dtype)
    const reference = await peer(folder, 'float32')
    const ours = await logits('ours', process.execPath, [script('ours_worker.mjs')], {
      folder,
      dtype,
      backend: options.backend,
    })
    const error = relative_error(ours.values, reference.values)
    const verdict = error <= TOLERANCE ? 'met' : 'MISSED'
    console.log(
      `base-8 ${dtype} (${options.backend}, ${ours.version.isa}), logits against transformers ${reference.version.version} in float32: relative error ${error.toExponential(1)} (bar ${TOLERANCE}: ${verdict})`,
    )
    if (dtype !== 'float32') {
      const narrow = await peer(folder, dtype)
      console.log(`transformers' own ${dtype}: ${relative_error(narrow.values, reference.values).toExponential(1)}`)
    }
    if (error > TOLERANCE) process.exitCode = 1
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}

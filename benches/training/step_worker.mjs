/** Our side of step_speed.mjs: train {folder, rows, source, target, steps} → {losses, times: [{ms, cpu}], peak_bytes}. */

import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { SwitchTransformersForConditionalGeneration as Model } from 'switch-transformers'
import { some_ids } from '../peers/statistics.mjs'

const tensor = (name, rows) => {
  const data = Int32Array.from(rows.flat())
  return { name, dtype: 'int32', dims: [rows.length, rows[0].length], data: new Uint8Array(data.buffer) }
}

function peak_bytes() {
  const kib = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return Number(kib) * 1024
}

async function train({ folder, rows, source, target, steps }) {
  const model = await Model.from_pretrained(folder, { dtype: 'float32', backend: 'native' })
  const { vocab_size } = model.config
  const { handle } = model
  const options = { dropout_rate: 0, expert_dropout_rate: 0, router_jitter_noise: 0, optimizer: { type: 'adamw' } }
  const { training } = (await handle.call('training_start', { model: handle.id, options })).reply
  const batch = [
    tensor('input_ids', some_ids(rows, source, 1, vocab_size)),
    tensor('labels', some_ids(rows, target, 2, vocab_size)),
  ]
  const losses = []
  const times = []
  for (let step = 0; step < steps; step++) {
    const start = performance.now()
    const usage = process.cpuUsage()
    const { reply } = await handle.call('training_step', { training, step }, batch)
    await handle.call('training_update', { training, learning_rate: 1e-6, max_grad_norm: 1 })
    const { user, system } = process.cpuUsage(usage)
    losses.push(reply.loss)
    times.push({ ms: performance.now() - start, cpu: (user + system) / 1000 })
  }
  return { losses, times, peak_bytes: peak_bytes() }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { op: _, ...request } = JSON.parse(line)
  try {
    console.log(JSON.stringify(await train(request)))
  } catch (error) {
    console.log(JSON.stringify({ error: String(error?.stack ?? error) }))
  }
}

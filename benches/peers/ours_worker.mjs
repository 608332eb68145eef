/**
 * Our side of a comparison: see worker.mjs for the protocol and transformers_worker.py for the peer's side of it.
 *
 * load {folder, dtype, backend?} → {version, isa, threads, seconds}
 * encode {ids, save?, routes?} → {ms, cpu}; `save` is a file that gets the states as float32, `routes` one for int32 routes
 * generate {ids, new_tokens} → {ms, cpu, ids}; ids are the new tokens of each row
 * forward {ids, decoder_ids, save} → {ms, cpu}; `save` gets the logits as float32
 *
 * `ms` is milliseconds that passed, `cpu` those of processor time of the whole process.
 */

import { writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import {
  SwitchTransformersEncoderModel as Encoder,
  SwitchTransformersForConditionalGeneration as Model,
} from 'switch-transformers'

let encoder
let model

/** A clock that reads both kinds of time since it was made. */
function clock() {
  const start = performance.now()
  const usage = process.cpuUsage()
  return () => {
    const { user, system } = process.cpuUsage(usage)
    return { ms: performance.now() - start, cpu: (user + system) / 1000 }
  }
}

const bytes = ({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)

/** Routes of all sparse layers, one after another. */
function write_routes(file, routes) {
  writeFileSync(file, Buffer.concat(routes.map(bytes)))
}

const operations = {
  async load({ folder, dtype, backend = 'native' }) {
    const start = performance.now()
    encoder = await Encoder.from_pretrained(folder, { dtype, backend })
    model = await Model.from_pretrained(folder, { dtype, backend })
    const seconds = (performance.now() - start) / 1000
    const { reply } = await model.handle.backend.call('describe', {})
    return { version: reply.version, isa: reply.isa, threads: reply.threads, seconds }
  },

  async encode({ ids, save, routes }) {
    const read = clock()
    const output = await encoder.forward({ input_ids: ids, output_routes: routes !== undefined })
    const times = read()
    if (save) writeFileSync(save, bytes(output.last_hidden_state))
    if (routes) write_routes(routes, output.routes)
    return times
  },

  async generate({ ids, new_tokens }) {
    const read = clock()
    const sequences = await model.generate({ input_ids: ids, max_new_tokens: new_tokens, min_new_tokens: new_tokens })
    const times = read()
    return { ...times, ids: sequences.tolist().map((row) => row.slice(1).map(Number)) }
  },

  async forward({ ids, decoder_ids, save }) {
    const read = clock()
    const { logits } = await model.forward({ input_ids: ids, decoder_input_ids: decoder_ids })
    const times = read()
    writeFileSync(save, bytes(logits))
    return times
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...request } = JSON.parse(line)
  try {
    console.log(JSON.stringify(await operations[op](request)))
  } catch (error) {
    console.log(JSON.stringify({ error: String(error?.stack ?? error) }))
  }
}
process.exit(0)

/**
 * `npm start`: sets up what it needs (the native addon, not the WASM module), then lets the embedded model say how to
 * pronounce a word (or the words given after `--`).
 */

import { setup } from './setup.mjs'
import { main, run } from './steps.mjs'

await main(async () => {
  await setup({ wasm: false })
  const words = process.argv.slice(2)
  run(process.execPath, ['dist/cli.js', 'generate', ...(words.length > 0 ? words : ['hello'])])
})

/**
 * Lays out the packages that go to the registry beside the main one: npm/<platform>, one per target of package.json, each
 * with the addon that was built for it (bindings/node/*.node, from this machine or collected from others).
 *
 * Where the addon with CUDA was built (`npm run build:cuda`), it gets a package of its own, npm/linux-x64-gnu-cuda. It is no
 * dependency of the main one: whoever has a GPU installs it beside it, and nobody else downloads it.
 *
 * To release: run this, then `npx napi pre-publish -t npm`, which lists the platform packages as optional dependencies
 * of the main one and publishes them, then `npm publish`.
 */

import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { main, root, run_tool, say } from './steps.mjs'

await main(() => {
  rmSync(join(root, 'npm'), { recursive: true, force: true })
  run_tool('@napi-rs/cli/dist/cli.js', ['create-npm-dirs'])
  for (const platform of readdirSync(join(root, 'npm'))) {
    const file = `switch-transformers.${platform}.node`
    const built = join(root, 'bindings/node', file)
    if (existsSync(built)) copyFileSync(built, join(root, 'npm', platform, file))
    say(`${platform}: ${existsSync(built) ? 'complete' : 'no addon built'}`)
  }
  lay_out_cuda()
})

/** The plain package of the platform, under another name and with another addon. */
function lay_out_cuda() {
  const platform = 'linux-x64-gnu'
  const file = `switch-transformers.${platform}-cuda.node`
  const built = join(root, 'bindings/node/cuda', file)
  if (!existsSync(built)) return say(`${platform}-cuda: no addon built`)
  const folder = join(root, 'npm', `${platform}-cuda`)
  mkdirSync(folder, { recursive: true })
  const plain = JSON.parse(readFileSync(join(root, 'npm', platform, 'package.json'), 'utf8'))
  const described = {
    ...plain,
    name: `${plain.name}-cuda`,
    description: `${plain.name} with NVIDIA GPUs: install it beside switch-transformers.`,
    main: file,
    files: [file],
  }
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(described, null, 2)}\n`)
  copyFileSync(built, join(folder, file))
  say(`${platform}-cuda: complete`)
}

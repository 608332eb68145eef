/**
 * Lays out the packages that go to the registry beside the main one: npm/<platform>, one per target of package.json, each
 * with the addon that was built for it (bindings/node/*.node, from this machine or collected from others).
 *
 * To release: run this, then `npx napi pre-publish -t npm`, which lists the platform packages as optional dependencies
 * of the main one and publishes them, then `npm publish`.
 */

import { copyFileSync, existsSync, readdirSync, rmSync } from 'node:fs'
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
})

/** A process of its own that loads one file: NAME FILE. The environment says from where. Prints the path and a hash. */

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { open_repository, set_platform } from '../../ts/hub/index.js'
import { node_platform } from '../../ts/hub/node.js'

set_platform(node_platform)
const [name = '', file = ''] = process.argv.slice(2)
const repository = await open_repository(name, {
  progress_callback: (event) => {
    if (event.status === 'download') process.stderr.write('downloading\n')
  },
})
const path = (await repository.source(file))?.path ?? ''
process.stdout.write(JSON.stringify({ path, sha256: createHash('sha256').update(readFileSync(path)).digest('hex') }))

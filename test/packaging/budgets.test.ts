/** What users download stays within its committed budget. */

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { rolldown } from 'rolldown'
import { expect, it } from 'vitest'
import budgets from './budgets.json'

const root = fileURLToPath(new URL('../../', import.meta.url))
const is_import = (what: string) => what.startsWith('import ')
const gzipped = (bytes: string | Buffer) => gzipSync(bytes, { level: 9 }).length

it.each(Object.entries(budgets).filter(([what]) => !is_import(what)))('%s', (file, { gzip_bytes }) => {
  expect(gzipped(readFileSync(root + file))).toBeLessThanOrEqual(gzip_bytes)
})

/** As a user's bundler makes it: what is unused shaken off, minified; what loads with the page, without what is loaded later. */
it.each(Object.entries(budgets).filter(([what]) => is_import(what)))('%s', async (statement, { gzip_bytes }) => {
  const names = /\{(.*)\}/.exec(statement)?.[1]
  const page = `import {${names}} from '${root}dist/browser.js'\nconsole.log(${names})`
  const build = await rolldown({
    input: 'page',
    platform: 'browser',
    plugins: [
      {
        name: 'page',
        resolveId: (id) => (id === 'page' ? `${root}page.js` : null),
        load: (id) => (id === `${root}page.js` ? page : null),
      },
    ],
  })
  const { output } = await build.generate({ format: 'esm', minify: true })
  const chunks = new Map(output.flatMap((each) => (each.type === 'chunk' ? [[each.fileName, each] as const] : [])))
  const first = new Set(output.filter((each) => each.type === 'chunk' && each.isEntry).map(({ fileName }) => fileName))
  for (const name of first) for (const imported of chunks.get(name)?.imports ?? []) first.add(imported)
  const sizes = [...first].map((name) => gzipped(chunks.get(name)?.code ?? ''))
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(gzip_bytes)
})

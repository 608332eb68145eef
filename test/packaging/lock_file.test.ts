import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

interface LockedPackage {
  resolved?: string
  optionalDependencies?: Record<string, string>
}

const text = readFileSync(new URL('../../package-lock.json', import.meta.url), 'utf8')
const { packages } = JSON.parse(text) as { packages: Record<string, LockedPackage> }

/** Where npm may have put a dependency of the package at `place`: beneath it, or beneath one of its parents. */
function places(place: string, name: string): string[] {
  const inside = `${place === '' ? '' : `${place}/`}node_modules/${name}`
  const parent = place.lastIndexOf('node_modules/')
  return parent < 0 ? [inside] : [inside, ...places(place.slice(0, Math.max(parent - 1, 0)), name)]
}

describe('package-lock.json', () => {
  // npm drops other platforms' binaries from the lock file when packages are added beside an existing node_modules;
  // `npm ci` then fails everywhere. To mend it: npm install --package-lock-only in an empty folder with package.json.
  it('holds the binaries of every platform', () => {
    const missing = Object.entries(packages).flatMap(([place, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies).filter((name) => !places(place, name).some((at) => at in packages)),
    )
    expect(missing).toEqual([])
  })

  it('names no registry', () => {
    expect(Object.values(packages).filter(({ resolved }) => resolved !== undefined)).toEqual([])
  })
})

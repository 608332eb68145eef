/** An empty project with the packed package installed, as a user's would be. */

import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../../', import.meta.url))

/** The environment of a user who has set nothing, and whose packages come from wherever ours did. */
const env = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^(SWITCH_|npm_(config_)?(package|lifecycle)|NODE_|VITEST|INIT_CWD)/.test(name),
  ),
)

export interface Outcome {
  status: number
  stdout: string
  stderr: string
}

export function run(folder: string, command: string, args: string[]): Outcome {
  try {
    const stdout = execFileSync(command, args, {
      cwd: folder,
      env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 1 << 28,
    })
    return { status: 0, stdout, stderr: '' }
  } catch (error) {
    const { status, stdout, stderr } = error as Outcome
    if (typeof status !== 'number') throw error
    return { status, stdout, stderr }
  }
}

/** Runs a command that must succeed; what it said is in the error otherwise. */
export function succeed(folder: string, command: string, args: string[]): string {
  const { status, stdout, stderr } = run(folder, command, args)
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} exited with ${status}\n${stdout}\n${stderr}`)
  return stdout
}

export interface Packed {
  /** Where the tarballs are; remove it in the end. */
  folder: string
  /** The main package. */
  main: string
  /** The package of this machine's platform. */
  platform: string
  platform_name: string
  /** Paths inside the main package. */
  files: string[]
}

/** Packs the main package and this platform's. What is packed was built by set-up. */
export function pack(): Packed {
  const folder = mkdtempSync(join(tmpdir(), 'switch-pack-'))
  const [report] = JSON.parse(
    succeed(root, 'npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder]),
  ) as [{ filename: string; files: { path: string }[] }]
  succeed(root, process.execPath, ['scripts/platform_packages.mjs'])
  const platforms = join(root, 'npm')
  const platform_name = readdirSync(platforms).find((name) =>
    readdirSync(join(platforms, name)).some((file) => file.endsWith('.node')),
  )
  if (platform_name === undefined) throw new Error('no platform package has an addon')
  const [platform] = JSON.parse(
    succeed(join(platforms, platform_name), 'npm', ['pack', '--json', '--pack-destination', folder]),
  ) as [{ filename: string }]
  return {
    folder,
    main: join(folder, report.filename),
    platform: join(folder, platform.filename),
    platform_name,
    files: report.files.map(({ path }) => path),
  }
}

/** A project in `folder` with these packages installed and these files written. */
export function create_project(folder: string, packages: string[], files: Record<string, string>): void {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'user', version: '1.0.0', private: true }))
  succeed(folder, 'npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error', ...packages])
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
}

/**
 * A turn on a machine that is shared: `--turn COMMAND` names a program that runs another one while the machine is quiet
 * (`flock FILE`, say). All that is timed happens while such a turn is held; loading, checking and compiling do not.
 */

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

/** Says when it has begun, and ends when its input does. */
const HOLD = `sh -c 'echo begun; cat > /dev/null'`

/**
 * Runs `work(holds)` in a turn, where `holds()` throws once the turn has ended; then all of it again, up to `tries` times.
 */
export async function in_turn(command, workers, work, tries = 2) {
  if (command === undefined) return work(() => {})
  const turn = spawn(`${command} ${HOLD}`, { shell: true, stdio: ['pipe', 'pipe', 'inherit'] })
  let over = false
  turn.stdin.on('error', () => {})
  const ended = new Promise((resolve) => {
    turn.on('exit', () => {
      over = true
      resolve()
    })
  })
  const begun = new Promise((resolve) => createInterface({ input: turn.stdout }).once('line', resolve))
  await Promise.race([begun, ended])
  if (over) throw new Error(`--turn: '${command}' ended before anything was timed`)
  // What makes the machine quiet may have stopped our own.
  for (const worker of workers) worker.resume()
  const holds = () => {
    if (over) throw new Error('--turn: it ended before the work was done')
  }
  try {
    return await work(holds)
  } catch (error) {
    if (!over || tries <= 1) throw error
    console.error('The turn ended before the work was done: once more.')
  } finally {
    turn.stdin.end()
    await ended
  }
  return in_turn(command, workers, work, tries - 1)
}

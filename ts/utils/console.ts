/** Standard output where there is one, the console elsewhere. */

interface ProcessLike {
  stdout?: { write?: (text: string) => unknown }
}

export function write_stdout(text: string): void {
  const { stdout } = ((globalThis as { process?: ProcessLike }).process ?? {}) as ProcessLike
  if (typeof stdout?.write === 'function') stdout.write(text)
  else console.log(text)
}

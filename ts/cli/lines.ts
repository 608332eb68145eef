/** The lines of a byte stream. */

/**
 * Lines without their ends (LF or CR LF), read as they are asked for. A last line without an end counts, an empty one
 * does not. Bytes that are not UTF-8 become replacement characters.
 */
export async function* lines_of(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder()
  // Parts of the line that has not ended yet, so that a long line in many chunks is joined once.
  let parts: string[] = []
  for await (const chunk of chunks) {
    const pieces = decoder.decode(chunk, { stream: true }).split('\n')
    const last = pieces.pop() as string
    for (const piece of pieces) {
      parts.push(piece)
      yield without_return(parts.join(''))
      parts = []
    }
    parts.push(last)
  }
  parts.push(decoder.decode())
  const rest = without_return(parts.join(''))
  if (rest !== '') yield rest
}

function without_return(line: string): string {
  return line.endsWith('\r') ? line.slice(0, -1) : line
}

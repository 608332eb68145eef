/** Numbers and tables as text. */

const BYTE_UNITS = ['B', 'kB', 'MB', 'GB', 'TB'] as const
const COUNT_UNITS = ['', ' K', ' M', ' B', ' T'] as const

/** 1234567 as "1.23 MB". */
export function show_bytes(bytes: number): string {
  return scaled(
    bytes,
    BYTE_UNITS.map((unit) => ` ${unit}`),
  )
}

/** 619339008 as "619 M". */
export function show_count(count: number): string {
  return scaled(count, COUNT_UNITS)
}

function scaled(value: number, units: readonly string[]): string {
  let rest = value
  let unit = 0
  // 999.5 would be shown as 1000.
  while (rest >= 999.5 && unit < units.length - 1) {
    rest /= 1000
    unit += 1
  }
  return `${unit === 0 ? String(rest) : Number(rest.toPrecision(3))}${units[unit]}`
}

/** 1234567 as "1,234,567". */
export function show_integer(value: number): string {
  return value.toLocaleString('en-US')
}

/** An error measure: exact zero as "0", otherwise in two digits, as "3.1e-7". */
export function show_error(error: number): string {
  return error === 0 ? '0' : Number.isFinite(error) ? error.toExponential(1) : 'not finite'
}

/** Rows of cells in columns as wide as their widest cell; the last one is not padded. */
export function table(rows: readonly (readonly string[])[], indent = ''): string {
  const widths: number[] = []
  for (const row of rows) {
    for (const [i, cell] of row.entries()) {
      if (i < row.length - 1) widths[i] = Math.max(widths[i] ?? 0, width_of(cell))
    }
  }
  const lines = rows.map((row) =>
    row
      .map((cell, i) => (i < row.length - 1 ? cell + ' '.repeat((widths[i] as number) - width_of(cell)) : cell))
      .join('  '),
  )
  return lines.map((text) => `${indent}${text.trimEnd()}\n`).join('')
}

const segments = new Intl.Segmenter('en', { granularity: 'grapheme' })
const WIDE =
  /\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]/u

/** Columns that a text takes in a terminal: graphemes, East Asian wide ones and emoji twice. */
function width_of(text: string): number {
  let width = 0
  for (const { segment } of segments.segment(text)) width += WIDE.test(segment) ? 2 : 1
  return width
}

/** Text with control characters made visible, so that nothing in a file can move the cursor or change colours. */
export function printable(text: string): string {
  return text.replace(/(?![\t\n])\p{Cc}/gu, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

/** JSON as `json.dumps(…, indent=2, sort_keys=True)` writes it: keys in order, at every level. */
export function sorted_json(value: unknown): string {
  return `${JSON.stringify(sort_keys(value), null, 2)}\n`
}

function sort_keys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sort_keys)
  if (value === null || typeof value !== 'object') return value
  const entries = Object.entries(value).filter(([, v]) => v !== undefined)
  entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
  return Object.fromEntries(entries.map(([k, v]) => [k, sort_keys(v)]))
}

export function is_record(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
}

/** A short form of any value for error messages. Never throws and never grows with the value. */
export function show(value: unknown): string {
  if (value === undefined) return 'undefined'
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value)
  if (typeof value === 'symbol') return 'a symbol'
  if (ArrayBuffer.isView(value)) return `a ${value.constructor.name} of ${value.byteLength} bytes`
  let text: string | undefined
  try {
    text = JSON.stringify(value, (_key, v) => (typeof v === 'bigint' ? `${v}n` : v))
  } catch {
    text = undefined
  }
  if (text === undefined) return `a ${typeof value}`
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

const { hasOwnProperty: owns } = Object.prototype

/** `Object.hasOwn`, which the oldest engines with WebAssembly's SIMD lack. */
export function has_own(object: object, key: PropertyKey): boolean {
  return owns.call(object, key)
}

/** A deep copy of JSON values, numbers that JSON lacks included. (Those engines have no `structuredClone` either.) */
export function copy_of<T>(value: T): T {
  if (Array.isArray(value)) return value.map(copy_of) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, copy_of(item)])) as T
}

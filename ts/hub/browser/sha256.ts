/**
 * SHA-256 (FIPS 180-4) of bytes that come one after another. The browser's own hashes only what is in memory as a whole,
 * which a file of weights must never be.
 */

/** The first 32 bits of the fractional part. */
const fraction = (x: number) => ((x - Math.floor(x)) * 2 ** 32) >>> 0

function first_primes(count: number): number[] {
  const primes: number[] = []
  for (let n = 2; primes.length < count; n++) if (primes.every((prime) => n % prime !== 0)) primes.push(n)
  return primes
}

const PRIMES = first_primes(64)
const K = Uint32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)))
const START = PRIMES.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)))
const BLOCK = 64

export class Sha256 {
  readonly #state = Uint32Array.from(START)
  readonly #schedule = new Uint32Array(64)
  /** Bytes of a block that is not whole yet. */
  readonly #rest = new Uint8Array(BLOCK)
  #length = 0

  update(bytes: Uint8Array): void {
    let at = 0
    const held = this.#length % BLOCK
    this.#length += bytes.length
    if (held > 0) {
      at = Math.min(BLOCK - held, bytes.length)
      this.#rest.set(bytes.subarray(0, at), held)
      if (held + at < BLOCK) return
      this.#compress(this.#rest, 0)
    }
    for (; at + BLOCK <= bytes.length; at += BLOCK) this.#compress(bytes, at)
    this.#rest.set(bytes.subarray(at))
  }

  /** The hash in hexadecimal. Nothing can be added afterwards. */
  hex(): string {
    const bits = this.#length * 8
    const padding = new Uint8Array(BLOCK - ((this.#length + 8) % BLOCK) + 8)
    padding[0] = 0x80
    const view = new DataView(padding.buffer)
    view.setUint32(padding.length - 8, Math.floor(bits / 2 ** 32))
    view.setUint32(padding.length - 4, bits >>> 0)
    this.update(padding)
    return [...this.#state].map((word) => word.toString(16).padStart(8, '0')).join('')
  }

  #compress(bytes: Uint8Array, at: number): void {
    const w = this.#schedule
    for (let i = 0; i < 16; i++) {
      const j = at + 4 * i
      w[i] =
        ((bytes[j] as number) << 24) |
        ((bytes[j + 1] as number) << 16) |
        ((bytes[j + 2] as number) << 8) |
        (bytes[j + 3] as number)
    }
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15] as number
      const y = w[i - 2] as number
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3)
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10)
      w[i] = ((w[i - 16] as number) + s0 + (w[i - 7] as number) + s1) | 0
    }
    const state = this.#state
    let a = state[0] as number
    let b = state[1] as number
    let c = state[2] as number
    let d = state[3] as number
    let e = state[4] as number
    let f = state[5] as number
    let g = state[6] as number
    let h = state[7] as number
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7))
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + (K[i] as number) + (w[i] as number)) | 0
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10))
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0
      h = g
      g = f
      f = e
      e = (d + t1) | 0
      d = c
      c = b
      b = a
      a = (t1 + t2) | 0
    }
    const sums = [a, b, c, d, e, f, g, h]
    for (let i = 0; i < 8; i++) state[i] = (state[i] as number) + (sums[i] as number)
  }
}

/**
 * A hub on loopback: the endpoints that clients of the Hugging Face hub use, and a content network on another port that
 * large files are redirected to. It misbehaves where a test says so.
 */

import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface HubFile {
  content: Buffer
  /** Kept by Git LFS: named by SHA-256 and served by the content network. */
  lfs?: boolean
}

export interface HubRepository {
  /** Files per commit. */
  commits: Record<string, Record<string, HubFile>>
  /** Commits per branch or tag. */
  refs: Record<string, string>
  /** Readable with this token only. */
  token?: string
  /** Its existence is known, its files are not given without the token. */
  gated?: boolean
}

/** What goes wrong with the next requests whose path matches. */
export interface Fault {
  path: RegExp
  /** How many requests it hits. Default 1. */
  times?: number
  /** Break the connection after so many bytes of the body. */
  drop_after?: number
  /** Send no more after so many bytes, and keep the connection open. */
  stall_after?: number
  /** Answer with this status and nothing else. */
  status?: number
  headers?: Record<string, string>
  /** Answer with a page, as the login page of a network does. */
  html?: boolean
  /** Pretend that the file has so many bytes more (or fewer). */
  length?: number
  /** Change a byte of the body. */
  corrupt?: boolean
  /** Send the whole file whatever range was asked for. */
  ignore_range?: boolean
  /** Pause between parts of the body. */
  slow_ms?: number
  /** Answer 416 to any range. */
  refuse_range?: boolean
  /** Redirect there instead. */
  redirect?: string
  /** Replaces the JSON of an answer. */
  json?: (body: unknown) => unknown
}

export interface SeenRequest {
  host: 'hub' | 'cdn'
  method: string
  path: string
  headers: IncomingMessage['headers']
}

const PART = 64 * 1024

export class HubServer {
  readonly repositories: Record<string, HubRepository> = {}
  readonly requests: SeenRequest[] = []
  faults: Fault[] = []
  /** Entries per page of a listing. */
  page_size = 1000
  readonly #hub: Server
  readonly #cdn: Server

  private constructor() {
    this.#hub = createServer((request, response) => this.#handle('hub', request, response))
    this.#cdn = createServer((request, response) => this.#handle('cdn', request, response))
  }

  static async start(): Promise<HubServer> {
    const server = new HubServer()
    await Promise.all([listen(server.#hub), listen(server.#cdn)])
    return server
  }

  get url(): string {
    return address(this.#hub)
  }

  get cdn_url(): string {
    return address(this.#cdn)
  }

  /** Forgets requests and faults. */
  reset(): void {
    this.requests.length = 0
    this.faults = []
    this.page_size = 1000
  }

  /** Requests whose path matches, in order. */
  seen(path: RegExp, host?: 'hub' | 'cdn'): SeenRequest[] {
    return this.requests.filter((each) => path.test(each.path) && (host === undefined || each.host === host))
  }

  /** Lets the process end while it runs. */
  unref(): void {
    this.#hub.unref()
    this.#cdn.unref()
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#cdn]) {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  }

  #handle(host: 'hub' | 'cdn', request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', host === 'hub' ? this.url : this.cdn_url)
    const path = decodeURIComponent(url.pathname)
    // As the hub does for pages of other origins.
    response.setHeader('access-control-allow-origin', '*')
    response.setHeader('access-control-expose-headers', '*')
    if (request.method === 'OPTIONS') {
      return void response.writeHead(204, { 'access-control-allow-headers': 'authorization, range' }).end()
    }
    this.requests.push({ host, method: request.method ?? '', path, headers: request.headers })
    const fault = this.#take_fault(path, host)
    if (fault?.status !== undefined) return void response.writeHead(fault.status, fault.headers ?? {}).end()
    if (fault?.redirect !== undefined) return void response.writeHead(302, { location: fault.redirect }).end()
    if (fault?.html) {
      return void response
        .writeHead(200, { 'content-type': 'text/html' })
        .end('<html><body>Please log in</body></html>')
    }
    if (host === 'cdn') {
      this.#cdn_file(path, request, response, fault)
      return
    }
    const api = /^\/api\/models\/(.+?)\/(revision|tree|paths-info)\/(.+)$/.exec(path)
    const resolve = /^\/(.+?)\/resolve\/([^/]+)\/(.+)$/.exec(path)
    if (api) this.#api(api[1] as string, api[2] as string, api[3] as string, url, request, response, fault)
    else if (resolve) {
      const [, name, revision, file] = resolve as unknown as [string, string, string, string]
      this.#resolve(name, decodeURIComponent(revision), file, request, response, fault)
    } else fail(response, 404, null)
  }

  #take_fault(path: string, host: 'hub' | 'cdn'): Fault | undefined {
    // Large files are only redirected by the hub: what goes wrong with bytes goes wrong at the content network.
    const about_bytes = (each: Fault) =>
      each.drop_after ?? each.stall_after ?? each.corrupt ?? each.length ?? each.slow_ms
    const fault = this.faults.find((each) => {
      if (!each.path.test(path)) return false
      return host === 'cdn' || !this.#is_redirected(path) || about_bytes(each) === undefined
    })
    if (!fault) return undefined
    fault.times = (fault.times ?? 1) - 1
    if (fault.times === 0) this.faults = this.faults.filter((each) => each !== fault)
    return fault
  }

  #is_redirected(path: string): boolean {
    const match = /^\/(.+?)\/resolve\/([^/]+)\/(.+)$/.exec(path)
    const found = match && this.#find(match[1] as string, match[2] as string)
    return found ? (found.files[match?.[3] as string]?.lfs ?? false) : false
  }

  #find(name: string, revision: string): { commit: string; files: Record<string, HubFile> } | null {
    const repository = this.repositories[name]
    const commit = repository?.refs[revision] ?? revision
    const files = repository?.commits[commit]
    return files ? { commit, files } : null
  }

  /** Whether the request may go on; answers it where not. */
  #admit(name: string, request: IncomingMessage, response: ServerResponse, is_file: boolean): boolean {
    const repository = this.repositories[name]
    const token = request.headers.authorization?.replace('Bearer ', '')
    if (!repository || (repository.token !== undefined && !repository.gated && token !== repository.token)) {
      fail(response, token ? 404 : 401, 'RepoNotFound')
      return false
    }
    if (repository.gated && is_file && token !== repository.token) {
      fail(response, token ? 403 : 401, 'GatedRepo')
      return false
    }
    return true
  }

  #api(
    name: string,
    kind: string,
    rest: string,
    url: URL,
    request: IncomingMessage,
    response: ServerResponse,
    fault?: Fault,
  ): void {
    if (!this.#admit(name, request, response, false)) return
    const found = this.#find(name, kind === 'revision' ? rest : (rest.split('/')[0] as string))
    if (!found) {
      fail(response, 404, 'RevisionNotFound')
      return
    }
    const files = Object.entries(found.files).map(([path, file]) => entry(path, file))
    let body: unknown
    if (kind === 'revision') {
      body = {
        _id: '0',
        id: name,
        modelId: name,
        sha: found.commit,
        private: false,
        gated: false,
        downloads: 0,
        likes: 0,
        lastModified: '2024-01-01T00:00:00.000Z',
        siblings: files.map(({ path }) => ({ rfilename: path })),
      }
    } else {
      const start = Number(url.searchParams.get('cursor') ?? 0)
      body = files.slice(start, start + this.page_size)
      if (start + this.page_size < files.length) {
        url.searchParams.set('cursor', String(start + this.page_size))
        response.setHeader('link', `<${url.href}>; rel="next"`)
      }
    }
    const json = JSON.stringify(fault?.json ? fault.json(body) : body)
    response.setHeader('content-type', 'application/json; charset=utf-8')
    send(request, response, Buffer.from(json), fault)
  }

  #resolve(
    name: string,
    revision: string,
    path: string,
    request: IncomingMessage,
    response: ServerResponse,
    fault?: Fault,
  ): void {
    if (!this.#admit(name, request, response, true)) return
    const found = this.#find(name, revision)
    if (!found) {
      fail(response, 404, 'RevisionNotFound')
      return
    }
    const file = found.files[path]
    response.setHeader('x-repo-commit', found.commit)
    if (!file) {
      fail(response, 404, 'EntryNotFound')
      return
    }
    if (!file.lfs) {
      response.setHeader('etag', `"${etag_of(file)}"`)
      response.setHeader('content-type', 'text/plain; charset=utf-8')
      send(request, response, file.content, fault)
      return
    }
    response.setHeader('x-linked-etag', `"${etag_of(file)}"`)
    response.setHeader('x-linked-size', String(file.content.length))
    response.setHeader('location', `${this.cdn_url}/cdn/${name}/${found.commit}/${path}?Signature=secret`)
    response.writeHead(302).end()
  }

  #cdn_file(path: string, request: IncomingMessage, response: ServerResponse, fault?: Fault): void {
    const match = /^\/cdn\/(.+)\/([0-9a-f]{40})\/(.+)$/.exec(path)
    const file = match && this.#find(match[1] as string, match[2] as string)?.files[match[3] as string]
    if (!file) {
      fail(response, 404, null)
      return
    }
    response.setHeader('content-type', 'application/octet-stream')
    send(request, response, file.content, fault)
  }
}

/** The name of a file's content, as the hub gives it. */
export function etag_of(file: HubFile): string {
  let etag = etags.get(file)
  if (etag === undefined) {
    const hash = file.lfs ? createHash('sha256') : createHash('sha1').update(`blob ${file.content.length}\0`)
    etag = hash.update(file.content).digest('hex')
    etags.set(file, etag)
  }
  return etag
}

const etags = new WeakMap<HubFile, string>()

function entry(path: string, file: HubFile) {
  const size = file.content.length
  const oid = createHash('sha1').update(`pointer ${path}`).digest('hex')
  if (!file.lfs) return { type: 'file', path, size, oid: etag_of(file) }
  return { type: 'file', path, size, oid, lfs: { oid: etag_of(file), size, pointerSize: 134 }, xetHash: etag_of(file) }
}

function send(request: IncomingMessage, response: ServerResponse, content: Buffer, fault: Fault = { path: /./ }): void {
  let body = content
  if (fault.corrupt) {
    body = Buffer.from(body)
    body[body.length - 1] = (body[body.length - 1] as number) ^ 1
  }
  if (fault.length) {
    body = fault.length < 0 ? body.subarray(0, fault.length) : Buffer.concat([body, Buffer.alloc(fault.length)])
  }
  response.setHeader('accept-ranges', 'bytes')
  const range = fault.ignore_range ? null : /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
  const start = range ? Number(range[1]) : 0
  if (range && (start >= body.length || fault.refuse_range)) {
    return void response.writeHead(416, { 'content-range': `bytes */${body.length}` }).end()
  }
  const end = range?.[2] ? Math.min(Number(range[2]) + 1, body.length) : body.length
  const part = body.subarray(start, end)
  if (range) response.setHeader('content-range', `bytes ${start}-${end - 1}/${body.length}`)
  response.setHeader('content-length', String(part.length))
  response.writeHead(range ? 206 : 200)
  if (request.method === 'HEAD') return void response.end()
  void send_parts(response, part, fault)
}

async function send_parts(response: ServerResponse, body: Buffer, fault: Fault): Promise<void> {
  // One for each wait until the client takes more.
  response.setMaxListeners(0)
  const limit = Math.min(fault.drop_after ?? fault.stall_after ?? body.length, body.length)
  for (let at = 0; at < limit && !response.destroyed; at += PART) {
    const flushed = response.write(body.subarray(at, Math.min(at + PART, limit)))
    if (!flushed) await new Promise((resolve) => response.once('drain', resolve).once('close', resolve))
    if (fault.slow_ms) await new Promise((resolve) => setTimeout(resolve, fault.slow_ms))
  }
  if (fault.drop_after !== undefined) {
    // What was written must arrive before the connection breaks.
    setTimeout(() => response.destroy(), 20)
  } else if (fault.stall_after === undefined) response.end()
}

function fail(response: ServerResponse, status: number, code: string | null): void {
  if (code !== null) response.setHeader('x-error-code', code)
  response.setHeader('content-type', 'application/json')
  response.writeHead(status).end(JSON.stringify({ error: code ?? 'Not found' }))
}

function listen(server: Server): Promise<void> {
  return new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
}

function address(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/**
 * A hub from a browser. The hub's JavaScript client does this in Node; in a web bundle it would take 16 of the facade's
 * 40 kB (gzipped) and its entry for browsers is not one that bundlers resolve, so the three requests are made here.
 */

import { impossible, listed_commit, listed_file, type TreeEntry } from '../listing.js'
import { type RequestSettings, request_json } from '../request.js'
import { request_body } from '../transfer.js'
import type { Remote, RemoteFile } from '../types.js'

const MAX_PAGES = 1000

/** `revision` is what messages call the commit by. */
export function web_remote(settings: RequestSettings, name: string, revision: string): Remote {
  const api = `${settings.endpoint}/api/models/${name}`
  const subject = { repository: name, revision }

  return {
    async commit(max_retries) {
      const url = new URL(`${api}/revision/${encodeURIComponent(revision)}`)
      const response = await request_json(settings, url, {}, subject, max_retries)
      return listed_commit(((await response.json()) as { sha?: unknown } | null)?.sha, subject)
    },

    async files(commit, max_retries) {
      const files: RemoteFile[] = []
      let url: URL | undefined = new URL(`${api}/tree/${commit}?recursive=true`)
      for (let page = 0; url; page++) {
        if (page === MAX_PAGES) throw impossible(subject, `more than ${MAX_PAGES} pages`)
        const response = await request_json(settings, url, {}, subject, max_retries)
        const entries: unknown = await response.json()
        if (!Array.isArray(entries)) throw impossible(subject, 'no list of files')
        for (const entry of entries as (TreeEntry | null)[]) {
          const file = listed_file(entry, subject)
          if (file) files.push(file)
        }
        const next: string | undefined = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get('link') ?? '')?.[1]
        url = next ? new URL(next, url) : undefined
      }
      return files
    },

    async open(commit, file, start) {
      const path = file.path.split('/').map(encodeURIComponent).join('/')
      const url = new URL(`${settings.endpoint}/${name}/resolve/${commit}/${path}`)
      const answer = await request_body(settings, url, {}, file, start, { ...subject, file: file.path })
      return { start: answer.start, body: answer.response.body ?? new Blob().stream() }
    },
  }
}

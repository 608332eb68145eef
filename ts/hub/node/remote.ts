/**
 * A hub through its own JavaScript client. That client knows the hub's endpoints, pages through listings and opens
 * files; it does not resume, check, lock, retry or time out, so those are done around it, in the `fetch` it is given.
 */

import { downloadFile, listFiles, modelInfo } from '@huggingface/hub'
import type { Subject } from '../failures.js'
import { impossible, listed_commit, listed_file } from '../listing.js'
import { type RequestSettings, request_json } from '../request.js'
import { request_body } from '../transfer.js'
import type { Remote, RemoteBody, RemoteFile } from '../types.js'

const MAX_FILES = 100_000

/** `revision` is what messages call the commit by: the name that the user gave. */
export function hub_remote(settings: RequestSettings, name: string, revision: string): Remote {
  const { endpoint: hubUrl } = settings
  const repo = { type: 'model' as const, name }

  /** A `fetch` for the client's JSON requests. The token is added beneath it, for the hub's own address only. */
  const json_fetch = (subject: Subject, max_retries: number | undefined): typeof fetch => {
    return (input, init) => request_json(settings, new URL(String(input)), init ?? {}, subject, max_retries)
  }

  return {
    async commit(max_retries) {
      const subject = { repository: name, revision }
      const fetch = json_fetch(subject, max_retries)
      const { sha } = await modelInfo({ name, revision, hubUrl, fetch, additionalFields: ['sha'] })
      return listed_commit(sha, subject)
    },

    async files(commit, max_retries) {
      const subject = { repository: name, revision }
      const files: RemoteFile[] = []
      const entries = listFiles({
        repo,
        revision: commit,
        recursive: true,
        hubUrl,
        fetch: json_fetch(subject, max_retries),
      })
      for await (const entry of entries) {
        const file = listed_file(entry, subject)
        if (file) files.push(file)
        if (files.length > MAX_FILES) throw impossible(subject, `more than ${MAX_FILES} files`)
      }
      return files
    },

    async open(commit, file, start) {
      const subject = { repository: name, revision, file: file.path }
      const path = file.path.split('/').map(encodeURIComponent).join('/')
      const url = `${hubUrl}/${name}/resolve/${commit}/${path}`
      return new Promise<RemoteBody>((resolve, reject) => {
        // The client's blob keeps only the text of an error, so what became of its request is reported from here.
        const body_fetch: typeof fetch = async (input, init) => {
          try {
            const answer = await request_body(settings, new URL(String(input)), init ?? {}, file, start, subject)
            // The stream was there before its request was answered.
            resolve({ start: answer.start, body: body as ReadableStream<Uint8Array> })
            return answer.response
          } catch (error) {
            reject(error)
            throw error
          }
        }
        let body: ReadableStream<Uint8Array> | undefined
        downloadFile({
          repo,
          path: file.path,
          revision: commit,
          hubUrl,
          fetch: body_fetch,
          xet: false,
          downloadInfo: { url, size: file.size, etag: file.etag },
        })
          .then((blob) => {
            body = (blob as Blob).slice(start).stream()
          })
          .catch(reject)
      })
    },
  }
}

/**
 * Models out of where a training wrote them: out of a browser's origin private file system, which users do not see, into
 * files that they keep. The same in Node, where they are files already.
 */

/**
 * The files of a folder that `Trainer` or `save_pretrained` wrote, sorted by name: `File`s, whose bytes are read when they
 * are used. In browsers `folder` is a path of the origin private file system.
 *
 * @throws {FileError} `FILE_NOT_FOUND` where there is no such folder, or nothing in it.
 */
export async function model_folder_files(folder: string): Promise<File[]> {
  return (await import('./archive.js')).folder_files(folder)
}

/**
 * The same as one file, `NAME.tar`, which holds the folder `NAME`. Its bytes are those of the files: nothing is copied
 * before it is read.
 *
 * @throws {FileError} `FILE_NOT_FOUND`; {InputError} for a file of 8 GiB and more, which has no place in an archive.
 */
export async function model_archive(folder: string): Promise<File> {
  return (await import('./archive.js')).archive(folder)
}

/**
 * Lets the browser download a model as `NAME.tar`. To be called in a page.
 *
 * @throws What `model_archive` throws; {OptionError} `UNSUPPORTED_OPTION` where there is no page.
 */
export async function download_model(folder: string): Promise<void> {
  await (await import('./archive.js')).download(folder)
}

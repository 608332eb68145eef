/**
 * What the addon is linked against in the place of NVIDIA's libraries: small archives whose functions find the real ones
 * when they are first called. So the addon loads on any machine, and a missing library is an error code of the call.
 *
 * candle's CUDA backend links libcuda, libcublas, libcublasLt, libcurand and libnvrtc by name; of these the library needs
 * the driver's alone. candle makes a cuBLAS and a cuRAND handle per device, which nothing here uses: where those libraries
 * are missing, making the handle succeeds and using it fails.
 */

import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { locked_version } from './rust.mjs'
import { output, root, run, StepError, step } from './steps.mjs'

/** Per library: cudarc's folder of declarations, the names that are tried, and what a call returns without it. */
const LIBRARIES = [
  { name: 'cuda', folder: 'driver', files: ['libcuda.so.1', 'libcuda.so'], absent: 100 },
  { name: 'nvrtc', folder: 'nvrtc', files: ['libnvrtc.so.13', 'libnvrtc.so'], absent: 11 },
  { name: 'cublas', folder: 'cublas', files: ['libcublas.so.13', 'libcublas.so'], absent: 1 },
  { name: 'cublasLt', folder: 'cublaslt', files: ['libcublasLt.so.13', 'libcublasLt.so'], absent: 1 },
  { name: 'curand', folder: 'curand', files: ['libcurand.so.10', 'libcurand.so'], absent: 101 },
]

/** Making, seeding and freeing handles that nothing uses. The first two write a null handle. */
const HANDLES = ['cublasCreate_v2', 'curandCreateGenerator']
const HARMLESS = [
  'cublasDestroy_v2',
  'cublasSetStream_v2',
  'curandDestroyGenerator',
  'curandSetPseudoRandomGeneratorSeed',
  'curandSetStream',
]

function declared_functions(folder) {
  const registry = join(process.env.CARGO_HOME ?? join(homedir(), '.cargo'), 'registry/src')
  const version = locked_version('cudarc')
  const found = output('sh', ['-c', `ls -d "${registry}"/*/cudarc-${version}/src/${folder}/sys/mod.rs`])
  if (found === null) throw new StepError(`cudarc ${version} is not in ${registry}: run "cargo fetch" first`)
  const text = readFileSync(found.split('\n')[0], 'utf8')
  return [...new Set([...text.matchAll(/pub unsafe fn (\w+)\(/g)].map((match) => match[1]))].filter((name) =>
    /^(cu[A-Z]|cublas|curand|nvrtc)/.test(name),
  )
}

/** The source of one library's archive, for the assembler and compiler of x86-64 Linux. */
function source({ name, files, absent }, functions) {
  const slots = functions.map(
    (f, i) => `
.globl ${f}
.hidden ${f}
.type ${f}, @function
${f}:
    jmp *switch_${name}_slots+${i * 8}(%rip)
switch_${name}_first_${i}:
    pushq $${i}
    jmp switch_${name}_find`,
  )
  return `// Made by scripts/cuda_link.mjs.
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

static const char *const names[] = {${functions.map((f) => `"${f}"`).join(', ')}};
static const char *const files[] = {${files.map((f) => `"${f}"`).join(', ')}};

static int absent(void) { return ${absent}; }
static int harmless(void) { return 0; }
static int empty_handle(void **handle) { *handle = NULL; return 0; }

__attribute__((visibility("hidden"))) extern void *switch_${name}_slots[];

/* Asked for by a function's first call; the next ones go straight there. Two threads at once find the same. */
__attribute__((used, visibility("hidden"))) void *switch_${name}_resolve(long index) {
    void *found = NULL;
    for (size_t i = 0; i < sizeof files / sizeof *files && found == NULL; i++) {
        void *library = dlopen(files[i], RTLD_NOW | RTLD_LOCAL);
        if (library != NULL) found = dlsym(library, names[index]);
    }
    if (found == NULL) {
        static const char *const handles[] = {${HANDLES.map((f) => `"${f}"`).join(', ')}};
        static const char *const quiet[] = {${HARMLESS.map((f) => `"${f}"`).join(', ')}};
        found = (void *)absent;
        for (size_t i = 0; i < sizeof handles / sizeof *handles; i++)
            if (strcmp(names[index], handles[i]) == 0) found = (void *)empty_handle;
        for (size_t i = 0; i < sizeof quiet / sizeof *quiet; i++)
            if (strcmp(names[index], quiet[i]) == 0) found = (void *)harmless;
    }
    switch_${name}_slots[index] = found;
    return found;
}

/* Keeps what a call passes in registers while its function is looked for. */
__asm__(
    ".text\\n"
    ".type switch_${name}_find, @function\\n"
    "switch_${name}_find:\\n"
    "    pushq %rdi\\n    pushq %rsi\\n    pushq %rdx\\n    pushq %rcx\\n    pushq %r8\\n    pushq %r9\\n"
    "    subq $128, %rsp\\n"
    "    movups %xmm0, (%rsp)\\n    movups %xmm1, 16(%rsp)\\n    movups %xmm2, 32(%rsp)\\n    movups %xmm3, 48(%rsp)\\n"
    "    movups %xmm4, 64(%rsp)\\n    movups %xmm5, 80(%rsp)\\n    movups %xmm6, 96(%rsp)\\n    movups %xmm7, 112(%rsp)\\n"
    "    movq 176(%rsp), %rdi\\n"
    "    call switch_${name}_resolve\\n"
    "    movq %rax, %r11\\n"
    "    movups (%rsp), %xmm0\\n    movups 16(%rsp), %xmm1\\n    movups 32(%rsp), %xmm2\\n    movups 48(%rsp), %xmm3\\n"
    "    movups 64(%rsp), %xmm4\\n    movups 80(%rsp), %xmm5\\n    movups 96(%rsp), %xmm6\\n    movups 112(%rsp), %xmm7\\n"
    "    addq $128, %rsp\\n"
    "    popq %r9\\n    popq %r8\\n    popq %rcx\\n    popq %rdx\\n    popq %rsi\\n    popq %rdi\\n"
    "    addq $8, %rsp\\n"
    "    jmp *%r11\\n"
${slots
  .join('\n')
  .split('\n')
  .filter(Boolean)
  .map((line) => `    "${line}\\n"`)
  .join('\n')}
    ".data\\n.balign 8\\n.globl switch_${name}_slots\\n.hidden switch_${name}_slots\\nswitch_${name}_slots:\\n"
${functions.map((_, i) => `    "    .quad switch_${name}_first_${i}\\n"`).join('\n')}
    ".text\\n");
`
}

const home = '.setup/cuda_home'

/**
 * A folder for CUDA_HOME with the toolkit's compiler and headers, and these archives in the place of its libraries.
 * @returns {Promise<string>}
 */
export async function cuda_link_home(toolkit) {
  const lib = join(home, 'lib')
  const outputs = [...LIBRARIES.map(({ name }) => join(lib, `lib${name}.a`)), join(lib, 'libcudart.a')]
  const inputs = ['scripts/cuda_link.mjs', 'Cargo.lock']
  await step('cuda link', { inputs, extra: toolkit, outputs }, () => {
    rmSync(join(root, home), { recursive: true, force: true })
    mkdirSync(join(root, lib), { recursive: true })
    for (const part of ['bin', 'include', 'nvvm']) symlinkSync(join(toolkit, part), join(root, home, part))
    for (const library of LIBRARIES) {
      const [c, o, a] = ['c', 'o', 'a'].map((end) => join(root, lib, `lib${library.name}.${end}`))
      writeFileSync(c, source(library, declared_functions(library.folder)))
      run('cc', ['-c', '-O2', '-fPIC', '-o', o, c])
      run('ar', ['rcs', a, o])
    }
    // The runtime that candle's own kernels call is part of the addon; it finds the driver by itself.
    const runtime = ['lib', 'lib64'].map((name) => join(toolkit, name, 'libcudart_static.a'))
    const found = runtime.find((file) => output('ls', [file]) !== null)
    if (found === undefined) throw new StepError(`${toolkit} has no libcudart_static.a`)
    copyFileSync(found, join(root, lib, 'libcudart.a'))
  })
  return join(root, home)
}

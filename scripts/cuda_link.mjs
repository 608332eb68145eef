/**
 * What the addon is linked against in the place of NVIDIA's libraries: small archives whose functions find the real ones
 * when they are first called. So the addon loads on any machine, and a missing library is an error code of the call.
 *
 * candle's CUDA backend links libcuda, libcublas, libcublasLt, libcurand and libnvrtc by name; of these the library needs
 * the driver's alone. candle makes a cuBLAS and a cuRAND handle per device, which nothing here uses: where those libraries
 * are missing, making the handle succeeds and using it fails.
 *
 * candle's own kernels are left out: the library launches none of them, and they are ten of the eleven minutes of a build
 * and three quarters of the addon. In the place of nvcc their build finds a script that makes empty modules, so that asking
 * for one is the driver's "not found", as on the stand-in of test_cuda_driver.mjs, with which whole models run.
 */

import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
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

/** What candle's build calls as nvcc. */
const compiler = (toolkit) => `#!/bin/sh
# Made by scripts/cuda_link.mjs: empty modules and objects for candle's kernels, of which nothing is launched.
mode= out= folder=. objects=
for last; do :; done
while [ $# -gt 0 ]; do
  case "$1" in
    --version | --list-gpu-code) exec '${toolkit}/bin/nvcc' "$1" ;;
    --ptx | --lib | -c) mode="$1" ;;
    -o) out="$2"; shift ;;
    --output-directory) folder="$2"; shift ;;
    *.o) objects="$objects '$1'" ;;
  esac
  shift
done
case "$mode" in
  --ptx) printf '.version 8.0\n.target sm_80\n.address_size 64\n' > "$folder/$(basename "$last" .cu).ptx" ;;
  -c) exec cc -c -x c -o "$out" /dev/null ;;
  --lib) eval exec ar rcs "'$out'" $objects ;;
  *) echo "expected --ptx, -c or --lib" >&2; exit 1 ;;
esac
`

/** The functions that candle's static kernels would be. */
function candle_launchers() {
  const registry = join(process.env.CARGO_HOME ?? join(homedir(), '.cargo'), 'registry/src')
  const version = locked_version('candle-kernels')
  const found = output('sh', ['-c', `ls "${registry}"/*/candle-kernels-${version}/src/ffi.rs`])
  if (found === null) throw new StepError(`candle-kernels ${version} is not in ${registry}: run "cargo fetch" first`)
  const text = readFileSync(found.split('\n')[0], 'utf8')
  return [...new Set([...text.matchAll(/pub fn (\w+)\(/g)].map((match) => match[1]))]
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
    symlinkSync(join(toolkit, 'include'), join(root, home, 'include'))
    mkdirSync(join(root, home, 'bin'))
    writeFileSync(join(root, home, 'bin/nvcc'), compiler(toolkit), { mode: 0o755 })
    for (const library of LIBRARIES) {
      const [c, o, a] = ['c', 'o', 'a'].map((end) => join(root, lib, `lib${library.name}.${end}`))
      writeFileSync(c, source(library, declared_functions(library.folder)))
      run('cc', ['-c', '-O2', '-fPIC', '-o', o, c])
      run('ar', ['rcs', a, o])
    }
    // candle links the runtime for its static kernels' sake; here it is these kernels, which nothing calls.
    const [c, o] = ['c', 'o'].map((end) => join(root, lib, `libcudart.${end}`))
    writeFileSync(
      c,
      candle_launchers()
        .map((name) => `int ${name}(void) { __builtin_trap(); }\n`)
        .join(''),
    )
    run('cc', ['-c', '-O2', '-fPIC', '-ffunction-sections', '-o', o, c])
    run('ar', ['rcs', join(root, lib, 'libcudart.a'), o])
  })
  return join(root, home)
}

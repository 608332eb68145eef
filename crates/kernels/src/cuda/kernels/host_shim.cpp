// The scheduler behind host_shim.h, and the launch by name that tests call.

#include <stdio.h>
#include <stdlib.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "all.cu"

// From one stack to another: callee-saved registers are kept on the stack that is left.
#if defined(__x86_64__)
asm(R"(
.text
.globl switch_shim_swap
.hidden switch_shim_swap
.type switch_shim_swap,@function
switch_shim_swap:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
extern "C" void switch_shim_swap(void **left, void *entered);
#else
#error "the host's run of the kernels is written for x86-64"
#endif

namespace shim {
namespace {
constexpr size_t STACK = 128 << 10;
enum class State { Ready, AtBlock, AtWarp, Done };

struct Fiber {
    void *stack_pointer = nullptr;
    std::unique_ptr<unsigned char[]> stack;
    State state = State::Done;
    dim3 thread{};
    int parity = 0;
};
struct Warp {
    uint32_t words[2][32][8];
};

std::vector<Fiber> fibers;
std::vector<Warp> warps;
std::unique_ptr<unsigned char[]> shared_memory;
void *scheduler_stack;
Fiber *current;
dim3 block, block_size, grid_size;
int order;
std::string failure;
void (*body)(void **);
void **body_arguments;

void leave(State state) {
    current->state = state;
    switch_shim_swap(&current->stack_pointer, scheduler_stack);
}

void run_fiber() {
    body(body_arguments);
    leave(State::Done);
    abort();
}

void prepare(Fiber &fiber, unsigned index) {
    if (!fiber.stack) fiber.stack.reset(new unsigned char[STACK]);
    fiber.thread = {index % block_size.x, index / block_size.x % block_size.y, index / block_size.x / block_size.y};
    fiber.state = State::Ready;
    fiber.parity = 0;
    auto top = reinterpret_cast<uintptr_t>(fiber.stack.get() + STACK) & ~uintptr_t(15);
    auto *at = reinterpret_cast<void **>(top);
    *--at = nullptr;  // Keeps the stack as aligned as after a call.
    *--at = reinterpret_cast<void *>(run_fiber);
    for (int i = 0; i < 6; i++) *--at = nullptr;
    fiber.stack_pointer = at;
}

/// Runs one block; false when its barriers do not meet.
bool run_block(unsigned threads, unsigned shared_bytes) {
    // A fresh array of the exact size, so that the address sanitizer sees every step past it.
    shared_memory.reset(new unsigned char[shared_bytes ? shared_bytes : 1]);
    memset(shared_memory.get(), 0xff, shared_bytes);
    for (unsigned i = 0; i < threads; i++) prepare(fibers[i], i);
    for (;;) {
        bool progress = false;
        for (unsigned i = 0; i < threads; i++) {
            // Three orders: ascending, descending, and the threads of a warp strewn.
            unsigned at = order == 0 ? i : order == 1 ? threads - 1 - i : (i * 37u) % threads;
            if (fibers[at].state != State::Ready) continue;
            progress = true;
            current = &fibers[at];
            switch_shim_swap(&scheduler_stack, current->stack_pointer);
        }
        unsigned at_block = 0, done = 0;
        for (unsigned w = 0; w < threads / 32; w++) {
            unsigned at_warp = 0;
            for (unsigned i = w * 32; i < w * 32 + 32; i++) {
                at_warp += fibers[i].state == State::AtWarp;
                at_block += fibers[i].state == State::AtBlock;
                done += fibers[i].state == State::Done;
            }
            if (at_warp == 32) {
                for (unsigned i = w * 32; i < w * 32 + 32; i++) fibers[i].state = State::Ready;
                progress = true;
            }
        }
        if (done == threads) return true;
        if (at_block == threads) {
            for (unsigned i = 0; i < threads; i++) fibers[i].state = State::Ready;
            progress = true;
        }
        if (!progress) return false;
    }
}
}  // namespace

const dim3 &thread_index() { return current->thread; }
const dim3 &block_index() { return block; }
const dim3 &block_dim() { return block_size; }
const dim3 &grid_dim() { return grid_size; }
unsigned char *shared() { return shared_memory.get(); }
void block_barrier() { leave(State::AtBlock); }
const uint32_t (*exchange(const uint32_t *words, int count))[8] {
    Warp &warp = warps[current->thread.x / 32];
    int parity = current->parity;
    current->parity ^= 1;
    for (int i = 0; i < count; i++) warp.words[parity][current->thread.x % 32][i] = words[i];
    leave(State::AtWarp);
    return warp.words[parity];
}

template <class... Arguments, size_t... At>
void spread(void (*kernel)(Arguments...), void **arguments, std::index_sequence<At...>) {
    kernel(*static_cast<Arguments *>(arguments[At])...);
}
struct Entry {
    const char *name;
    void (*call)(void **);
    /// Sizes of the parameters, -1 after the last.
    std::vector<int> sizes;
};
template <auto Kernel> struct Call;
template <class... Arguments, void (*Kernel)(Arguments...)> struct Call<Kernel> {
    static void run(void **arguments) { spread(Kernel, arguments, std::index_sequence_for<Arguments...>{}); }
    static std::vector<int> sizes() { return {int(sizeof(Arguments))...}; }
};
#define ENTRY(name) Entry{#name, Call<name>::run, Call<name>::sizes()},
const std::vector<Entry> &entries() {
    static const std::vector<Entry> all = {SWITCH_KERNELS(ENTRY)};
    return all;
}
}  // namespace shim

/// 0: threads and blocks in ascending order; 1: descending; 2: threads strewn.
extern "C" void switch_host_order(int value) { shim::order = value; }
extern "C" const char *switch_host_failure() { return shim::failure.c_str(); }

/// The sizes of a kernel's parameters; their number, or -1 for an unknown kernel.
extern "C" int switch_host_parameters(const char *name, int *sizes, int room) {
    for (const auto &entry : shim::entries()) {
        if (strcmp(entry.name, name) != 0) continue;
        for (int i = 0; i < int(entry.sizes.size()) && i < room; i++) sizes[i] = entry.sizes[size_t(i)];
        return int(entry.sizes.size());
    }
    return -1;
}

/// Runs a kernel to its end. 0, or 1 with the reason in switch_host_failure.
extern "C" int switch_host_launch(const char *name, const unsigned *grid, const unsigned *block, unsigned shared_bytes,
                                  void **arguments) {
    using namespace shim;
    const Entry *entry = nullptr;
    for (const auto &candidate : entries()) {
        if (strcmp(candidate.name, name) == 0) entry = &candidate;
    }
    unsigned threads = block[0] * block[1] * block[2];
    failure.clear();
    if (entry == nullptr) failure = std::string("no kernel ") + name;
    if (threads == 0 || threads > 1024 || threads % 32 != 0 || block[1] != 1 || block[2] != 1) {
        failure = std::string(name) + ": a block of " + std::to_string(threads) + " threads";
    }
    if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[1] > 65535 || grid[2] > 65535) {
        failure = std::string(name) + ": a grid with an empty or too long side";
    }
    // What every device of capability 8.0 and up gives without asking for more.
    if (shared_bytes > 48 << 10) failure = std::string(name) + ": more than 48 KiB of shared memory";
    if (!failure.empty()) return 1;
    if (fibers.size() < threads) fibers.resize(threads);
    if (warps.size() < threads / 32) warps.resize(threads / 32);
    body = entry->call;
    body_arguments = arguments;
    block_size = {block[0], block[1], block[2]};
    grid_size = {grid[0], grid[1], grid[2]};
    uint64_t blocks = uint64_t(grid[0]) * grid[1] * grid[2];
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t at = order == 1 ? blocks - 1 - i : i;
        shim::block = {unsigned(at % grid[0]), unsigned(at / grid[0] % grid[1]), unsigned(at / grid[0] / grid[1])};
        if (!run_block(threads, shared_bytes)) {
            failure = std::string(name) + ": threads of a block wait at barriers that do not meet";
            return 1;
        }
    }
    return 0;
}

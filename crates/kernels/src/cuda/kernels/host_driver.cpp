// A stand-in for the driver's library (libcuda.so.1) on a machine without a GPU: memory is the host's, a launch runs its
// kernel thread by thread (host_shim.cpp). With it the whole way from a model's file to its tokens runs as on a device but
// for the device. It knows the kernels of this folder by name and nothing else: candle's own give "not found".
//
// Errors are the driver's numbers. Room is SWITCH_HOST_MEMORY bytes, 4 GiB unless set, so that running out can be tried.
// SWITCH_HOST_DRIVER (13000), SWITCH_HOST_CAPABILITY (80) and SWITCH_HOST_DEVICES (1) make it another machine;
// SWITCH_HOST_FAIL, a kernel's name, '=' and an error's number, makes that kernel's launches fail.

#include <map>
#include <mutex>

#include "host_shim.cpp"

namespace {
enum Result { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, NOT_FOUND = 500, LAUNCH_FAILED = 719 };

std::mutex lock;
std::map<uintptr_t, size_t> allocations;
size_t used;

size_t room() {
    static const size_t bytes = [] {
        const char *text = getenv("SWITCH_HOST_MEMORY");
        return text != nullptr && *text != 0 ? size_t(strtoull(text, nullptr, 10)) : size_t(4) << 30;
    }();
    return bytes;
}

int setting(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text != nullptr && *text != 0 ? atoi(text) : otherwise;
}

int allocate(uint64_t *address, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    if (bytes == 0) return INVALID_VALUE;
    if (bytes > room() - used) return OUT_OF_MEMORY;
    void *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (memory == nullptr) return OUT_OF_MEMORY;
    // What a device holds before it is written is anything.
    memset(memory, 0xff, bytes);
    *address = uint64_t(uintptr_t(memory));
    allocations[uintptr_t(memory)] = bytes;
    used += bytes;
    return SUCCESS;
}

int release(uint64_t address) {
    std::lock_guard<std::mutex> guard(lock);
    auto found = allocations.find(uintptr_t(address));
    if (found == allocations.end()) return INVALID_VALUE;
    used -= found->second;
    allocations.erase(found);
    free(reinterpret_cast<void *>(uintptr_t(address)));
    return SUCCESS;
}

/// Whether a range lies in one allocation.
bool owned(uint64_t address, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    auto after = allocations.upper_bound(uintptr_t(address));
    if (after == allocations.begin()) return false;
    --after;
    return uintptr_t(address) - after->first + bytes <= after->second;
}

char token;
}  // namespace

#define API extern "C" int
typedef uint64_t Address;
typedef void *Handle;

API cuInit(unsigned) { return SUCCESS; }
API cuDriverGetVersion(int *version) { return *version = setting("SWITCH_HOST_DRIVER", 13000), SUCCESS; }
API cuDeviceGetCount(int *count) { return *count = setting("SWITCH_HOST_DEVICES", 1), SUCCESS; }
API cuDeviceGet(int *device, int ordinal) { return *device = 0, ordinal == 0 ? SUCCESS : INVALID_DEVICE; }
API cuDeviceGetName(char *name, int room, int) { return snprintf(name, size_t(room), "host stand-in"), SUCCESS; }
API cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = room(), SUCCESS; }
API cuDeviceGetAttribute(int *value, int attribute, int) {
    // Capability 8.0; memory pools, so that allocations go the way of the stream.
    int capability = setting("SWITCH_HOST_CAPABILITY", 80);
    *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : attribute == 115 ? 1 : 0;
    return SUCCESS;
}
API cuDevicePrimaryCtxRetain(Handle *context, int) { return *context = &token, SUCCESS; }
API cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API cuCtxSetCurrent(Handle) { return SUCCESS; }
API cuCtxGetCurrent(Handle *context) { return *context = &token, SUCCESS; }
API cuCtxSynchronize() { return SUCCESS; }
API cuCtxGetDevice(int *device) { return *device = 0, SUCCESS; }
API cuMemGetInfo_v2(size_t *unused, size_t *total) {
    std::lock_guard<std::mutex> guard(lock);
    return *unused = room() - used, *total = room(), SUCCESS;
}
API cuStreamCreate(Handle *stream, unsigned) { return *stream = &token, SUCCESS; }
API cuStreamDestroy_v2(Handle) { return SUCCESS; }
API cuStreamSynchronize(Handle) { return SUCCESS; }
API cuStreamWaitEvent(Handle, Handle, unsigned) { return SUCCESS; }
API cuStreamIsCapturing(Handle, int *status) { return *status = 0, SUCCESS; }
API cuStreamGetCaptureInfo_v2(Handle, int *status, void *, void *, void *, void *) { return *status = 0, SUCCESS; }
API cuStreamGetCaptureInfo_v3(Handle, int *status, void *, void *, void *, void *, void *) { return *status = 0, SUCCESS; }
API cuEventCreate(Handle *event, unsigned) { return *event = &token, SUCCESS; }
API cuEventRecord(Handle, Handle) { return SUCCESS; }
API cuEventSynchronize(Handle) { return SUCCESS; }
API cuEventDestroy_v2(Handle) { return SUCCESS; }
API cuMemAlloc_v2(Address *address, size_t bytes) { return allocate(address, bytes); }
API cuMemAllocAsync(Address *address, size_t bytes, Handle) { return allocate(address, bytes); }
API cuMemFree_v2(Address address) { return release(address); }
API cuMemFreeAsync(Address address, Handle) { return release(address); }
API cuMemHostAlloc(void **memory, size_t bytes, unsigned) {
    *memory = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    return *memory != nullptr ? SUCCESS : OUT_OF_MEMORY;
}
API cuMemFreeHost(void *memory) { return free(memory), SUCCESS; }
API cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, Handle) {
    if (!owned(to, bytes)) return INVALID_VALUE;
    return memcpy(reinterpret_cast<void *>(to), from, bytes), SUCCESS;
}
API cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, Handle) {
    if (!owned(from, bytes)) return INVALID_VALUE;
    return memcpy(to, reinterpret_cast<const void *>(from), bytes), SUCCESS;
}
API cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Handle) {
    if (!owned(to, bytes) || !owned(from, bytes)) return INVALID_VALUE;
    return memmove(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes), SUCCESS;
}
API cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) { return cuMemcpyHtoDAsync_v2(to, from, bytes, nullptr); }
API cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) { return cuMemcpyDtoHAsync_v2(to, from, bytes, nullptr); }
API cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) { return cuMemcpyDtoDAsync_v2(to, from, bytes, nullptr); }
API cuMemsetD8Async(Address to, unsigned char value, size_t bytes, Handle) {
    if (!owned(to, bytes)) return INVALID_VALUE;
    return memset(reinterpret_cast<void *>(to), value, bytes), SUCCESS;
}
API cuMemsetD8_v2(Address to, unsigned char value, size_t bytes) { return cuMemsetD8Async(to, value, bytes, nullptr); }
API cuModuleLoadData(Handle *module, const void *) { return *module = &token, SUCCESS; }
API cuModuleUnload(Handle) { return SUCCESS; }
API cuModuleGetFunction(Handle *function, Handle, const char *name) {
    for (const auto &entry : shim::entries()) {
        if (strcmp(entry.name, name) == 0) return *function = const_cast<char *>(entry.name), SUCCESS;
    }
    return NOT_FOUND;
}
API cuLaunchKernel(Handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared_bytes, Handle, void **arguments, void **) {
    static std::mutex one;
    std::lock_guard<std::mutex> guard(one);
    if (const char *fail = getenv("SWITCH_HOST_FAIL")) {
        const char *name = static_cast<const char *>(function), *equals = strchr(fail, '=');
        if (equals != nullptr && strlen(name) == size_t(equals - fail) && strncmp(name, fail, strlen(name)) == 0) {
            return atoi(equals + 1);
        }
    }
    unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    if (switch_host_launch(static_cast<const char *>(function), grid, block, shared_bytes, arguments) == 0) return SUCCESS;
    fprintf(stderr, "host stand-in: %s\n", switch_host_failure());
    return LAUNCH_FAILED;
}
API cuGetErrorName(int, const char **text) { return *text = "of the host stand-in", SUCCESS; }
API cuGetErrorString(int, const char **text) { return *text = "see the number", SUCCESS; }

/// Bytes allocated now: what tests of leaks compare.
extern "C" size_t switch_host_used() { return used; }

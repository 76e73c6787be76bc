// A driver of GPUs without a GPU: what cuda.core and cuda.bindings call, done by the processor.
//
// It has one card, which runs what tests/emulated_card.py compiles. It is as strict as a driver may be: memory is
// full of rubbish at first, a copy or a launch happens no earlier than somebody waits for it, and one that leaves its
// memory ends the process. What it is not asked for by this project it does not know, and the bindings say its name.
//
// Environment:
//     STUB_DRIVER_MEMORY    bytes of the card (default 1e9)
//     STUB_DRIVER_VERSION   CUDA of the driver (default 13000)
//     STUB_DRIVER_REFUSES   such as cuInit=100: the call returns this status
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace {

// Numbers of cuda.h.
enum Status {
    success = 0, invalid_value = 1, out_of_memory = 2, not_initialized = 3, no_device = 100, invalid_device = 101,
    invalid_context = 201, no_binary = 209, not_found = 500, illegal_address = 700, not_supported = 801,
};

struct Named {
    int status;
    const char *name, *text;
};

const Named kNames[] = {
    {success, "CUDA_SUCCESS", "no error"},
    {invalid_value, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {out_of_memory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {not_initialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {no_device, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {invalid_device, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {invalid_context, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {no_binary, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {not_found, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {illegal_address, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {702, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out and was terminated"},
    {not_supported, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
};

const char* setting(const char* name, const char* otherwise) {
    const char* found = std::getenv(name);
    return found ? found : otherwise;
}

enum Attribute { shared_size_bytes = 1, preferred_shared_memory_carveout = 9 };

// Status that a call is told to return, or success.
int refusal(const char* call) {
    const std::string told = setting("STUB_DRIVER_REFUSES", "");
    const std::size_t at = told.find('=');
    return at != std::string::npos && told.substr(0, at) == call ? std::atoi(told.c_str() + at + 1) : 0;
}

#define REFUSED(call)                          \
    if (const int status = refusal(#call)) return status

[[noreturn]] void end(const char* why) {
    std::fprintf(stderr, "stub driver: %s\n", why);
    std::_Exit(99);
}

constexpr std::size_t kGuard = 256;
constexpr unsigned char kRubbish = 0xA5;

struct Driver {
    bool initialised = false;
    // `kept` also counts what was freed and has not left the pool.
    std::size_t used = 0, kept = 0;
    // By address; the memory lies between two guards.
    std::map<std::uintptr_t, std::size_t> memory;
    // What a stream has still to do; there is one stream.
    std::vector<std::function<void()>> pending;
    void* context = nullptr;

    std::size_t size() const { return (std::size_t)std::atof(setting("STUB_DRIVER_MEMORY", "1e9")); }

    bool holds(std::uintptr_t there, std::size_t bytes) const {
        auto after = memory.upper_bound(there);
        if (after == memory.begin()) return false;
        --after;
        return there + bytes <= after->first + after->second;
    }

    void look_at_guards() const {
        for (const auto& [there, bytes] : memory) {
            const unsigned char* before = (const unsigned char*)there - kGuard;
            const unsigned char* behind = (const unsigned char*)there + bytes;
            for (std::size_t i = 0; i < kGuard; ++i)
                if (before[i] != kRubbish || behind[i] != kRubbish) end("a kernel wrote beside its memory");
        }
    }

    void wait() {
        auto now = std::move(pending);
        pending.clear();
        for (auto& one : now) one();
        look_at_guards();
    }
};

Driver& driver() {
    static Driver one;
    return one;
}

struct Library {
    void* handle;
};

struct Kernel {
    std::string name;
    void* entry;
};

char context, pool, stream;

typedef void (*Advance)(void*, void*, std::int64_t, void*, void*, int);
typedef void (*WorkingMemory)(void*, void*);

}  // namespace

extern "C" {

int cuInit(unsigned) {
    REFUSED(cuInit);
    if (*setting("CUDA_VISIBLE_DEVICES", "0") != '0') return no_device;
    driver().initialised = true;
    return success;
}

int cuDriverGetVersion(int* version) {
    *version = std::atoi(setting("STUB_DRIVER_VERSION", "13000"));
    return success;
}

int cuGetErrorName(int status, const char** name) {
    *name = nullptr;
    for (const Named& one : kNames)
        if (one.status == status) *name = one.name;
    return *name ? success : invalid_value;
}

int cuGetErrorString(int status, const char** text) {
    *text = nullptr;
    for (const Named& one : kNames)
        if (one.status == status) *text = one.text;
    return *text ? success : invalid_value;
}

int cuDeviceGetCount(int* count) {
    if (!driver().initialised) return not_initialized;
    *count = 1;
    return success;
}

int cuDeviceGet(int* device, int ordinal) {
    if (!driver().initialised) return not_initialized;
    *device = 0;
    return ordinal == 0 ? success : invalid_device;
}

int cuDeviceGetName(char* name, int length, int) {
    std::snprintf(name, length, "Stub Card");
    return success;
}

int cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
        case 10: *value = 32; return success;   // threads of a warp
        case 16: *value = 2; return success;    // multiprocessors
        case 75: *value = 9; return success;    // compute capability
        case 76: *value = 0; return success;
        case 115: *value = 1; return success;   // memory pools
        default: *value = 0; return success;
    }
}

int cuDevicePrimaryCtxRetain(void** found, int) {
    REFUSED(cuDevicePrimaryCtxRetain);
    *found = &context;
    return success;
}

int cuDevicePrimaryCtxRelease_v2(int) { return success; }

int cuCtxSetCurrent(void* given) {
    driver().context = given;
    return success;
}

int cuCtxGetCurrent(void** found) {
    *found = driver().context;
    return success;
}

int cuCtxGetDevice(int* device) {
    *device = 0;
    return driver().context ? success : invalid_context;
}

int cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    *least = *greatest = 0;
    return success;
}

int cuStreamCreateWithPriority(void** found, unsigned, int) {
    if (!driver().context) return invalid_context;
    *found = &stream;
    return success;
}

int cuStreamGetCtx(void*, void** found) {
    *found = &context;
    return success;
}

int cuStreamIsCapturing(void*, int* is) {
    *is = 0;
    return success;
}

int cuStreamSynchronize(void* given) {
    if (given != &stream) end("a wait for another stream");
    driver().wait();
    return refusal("cuStreamSynchronize");
}

int cuStreamDestroy_v2(void*) { return success; }

int cuDeviceGetDefaultMemPool(void** found, int) {
    *found = &pool;
    return success;
}

int cuDeviceGetMemPool(void** found, int) {
    *found = &pool;
    return success;
}

int cuMemPoolGetAttribute(void*, int, void* value) {
    std::memset(value, 0, 8);
    return success;
}

int cuMemPoolSetAttribute(void*, int, void*) { return success; }

int cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
    *total = driver().size();
    *free = *total - driver().kept;
    return success;
}

// The pool keeps all that was taken from it until it is told otherwise.
int cuMemPoolTrimTo(void*, std::size_t bytes) {
    if (driver().pending.size()) end("a pool is trimmed before what was freed is there");
    driver().kept = std::max(driver().used, bytes);
    return success;
}

int cuMemAllocFromPoolAsync(std::uintptr_t* found, std::size_t bytes, void*, void*) {
    REFUSED(cuMemAllocFromPoolAsync);
    if (bytes == 0) return invalid_value;
    if (driver().used + bytes > driver().size()) return out_of_memory;
    unsigned char* raw = (unsigned char*)std::aligned_alloc(kGuard, (2 * kGuard + bytes + kGuard - 1) / kGuard * kGuard);
    if (!raw) return out_of_memory;
    std::memset(raw, kRubbish, 2 * kGuard + bytes);
    *found = (std::uintptr_t)raw + kGuard;
    driver().memory[*found] = bytes;
    driver().used += bytes;
    driver().kept = std::max(driver().kept, driver().used);
    return success;
}

int cuMemAllocAsync(std::uintptr_t* found, std::size_t bytes, void* on) {
    return cuMemAllocFromPoolAsync(found, bytes, nullptr, on);
}

int cuMemFreeAsync(std::uintptr_t there, void*) {
    driver().pending.push_back([there] {
        auto found = driver().memory.find(there);
        if (found == driver().memory.end()) end("memory was freed that was not there");
        driver().look_at_guards();
        driver().used -= found->second;
        driver().memory.erase(found);
        std::free((void*)(there - kGuard));
    });
    return success;
}

int cuMemcpyHtoDAsync_v2(std::uintptr_t there, const void* here, std::size_t bytes, void* on) {
    if (on != &stream) end("a copy in another stream");
    driver().pending.push_back([=] {
        if (!driver().holds(there, bytes)) end("a copy to where there is no memory");
        std::memcpy((void*)there, here, bytes);
    });
    return success;
}

int cuMemcpyDtoHAsync_v2(void* here, std::uintptr_t there, std::size_t bytes, void* on) {
    if (on != &stream) end("a copy in another stream");
    driver().pending.push_back([=] {
        if (!driver().holds(there, bytes)) end("a copy from where there is no memory");
        std::memcpy(here, (const void*)there, bytes);
    });
    return success;
}

// Code is "stub:" and the path of a library for this processor.
int cuLibraryLoadData(void** found, const void* code, void*, void*, unsigned, void*, void*, unsigned) {
    REFUSED(cuLibraryLoadData);
    if (std::strncmp((const char*)code, "stub:", 5) != 0) return no_binary;
    void* handle = dlopen((const char*)code + 5, RTLD_NOW | RTLD_LOCAL);
    if (!handle) end(dlerror());
    *found = new Library{handle};
    return success;
}

int cuLibraryUnload(void*) { return success; }

int cuLibraryGetKernel(void** found, void* library, const char* name) {
    void* entry = dlsym(((Library*)library)->handle, name);
    if (!entry) return not_found;
    *found = new Kernel{name, entry};
    return success;
}

int cuKernelGetFunction(void** found, void* kernel) {
    *found = kernel;
    return success;
}

// Every kernel has shared memory, and nothing else that is asked for.
int cuKernelGetAttribute(int* value, int attribute, void*, int device) {
    if (device != 0) end("another card");
    *value = attribute == shared_size_bytes ? 1024 : 0;
    return success;
}

int cuKernelSetAttribute(int attribute, int value, void*, int device) {
    REFUSED(cuKernelSetAttribute);
    if (device != 0 || attribute != preferred_shared_memory_carveout || value != 100)
        end("an attribute that nothing should set");
    return success;
}

int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int, std::size_t) {
    *blocks = 1;
    return success;
}

struct LaunchConfig {
    unsigned grid[3], block[3], shared_bytes;
    void *on, *attributes;
    unsigned attribute_count;
};

int cuLaunchKernelEx(const LaunchConfig* config, void* function, void** given, void**) {
    REFUSED(cuLaunchKernelEx);
    if (config->on != &stream) end("a launch in another stream");
    const Kernel& kernel = *(Kernel*)function;
    const int threads = (int)(config->grid[0] * config->block[0]);
    // A driver, too, reads the arguments before it returns.
    if (kernel.name == "working_memory") {
        void *job = *(void**)given[0], *elements = *(void**)given[1];
        driver().pending.push_back([=, &kernel] { ((WorkingMemory)kernel.entry)(job, elements); });
        return success;
    }
    if (kernel.name != "advance") return not_supported;
    void *job = *(void**)given[0], *scratch = *(void**)given[1];
    const std::int64_t elements = *(std::int64_t*)given[2];
    void *stop = *(void**)given[3], *outcomes = *(void**)given[4];
    driver().pending.push_back([=, &kernel] {
        ((Advance)kernel.entry)(job, scratch, elements, stop, outcomes, threads);
    });
    return success;
}

int cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned a, unsigned b, unsigned c,
                   unsigned shared, void* on, void** given, void** extra) {
    const LaunchConfig config{{x, y, z}, {a, b, c}, shared, on, nullptr, 0};
    return cuLaunchKernelEx(&config, function, given, extra);
}

// NVRTC looks for tables that no document describes.
int cuGetExportTable(const void** table, const void*) {
    *table = nullptr;
    return not_found;
}

// The bindings ask for every call of the driver by its plain name and mean its newest version here.
int cuGetProcAddress_v2(const char* name, void** found, int, std::uint64_t, int* status) {
    static void* const here = [] {
        Dl_info about;
        dladdr((void*)&cuInit, &about);
        return dlopen(about.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    }();
    *found = dlsym(here, (std::string(name) + "_v2").c_str());
    if (!*found) *found = dlsym(here, name);
    if (status) *status = *found ? 0 : 1;
    return *found ? success : not_found;
}

}  // extern "C"

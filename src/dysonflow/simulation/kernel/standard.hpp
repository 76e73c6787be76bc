// The integers of the standard library. The run-time compiler for GPUs has no headers of its own.
#pragma once

#if defined(__CUDACC_RTC__)
namespace std {
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
using size_t = decltype(sizeof(0));
using ptrdiff_t = decltype((char*)0 - (char*)0);
}  // namespace std
#else
#include <cstddef>
#include <cstdint>
#endif

#if defined(DYSONFLOW_GPU)
#if defined(__CUDACC_RTC__)
__forceinline__ int this_thread() { return threadIdx.x; }
#else
// The source for a GPU, compiled for a processor as a test does: one thread after the other.
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static
static int current_thread;
__forceinline__ int this_thread() { return current_thread; }
#endif
#endif

// The time loops on a GPU: one group of replicas, a thread; the entries that nvrtc.py compiles at run time.
//
// The compiler is told everything by macros, and makes one case only:
//     DYSONFLOW_SYSTEM, DYSONFLOW_REAL   the system, float or double
//     DYSONFLOW_FIXED                    N, where it is a constant of the loops, or 0
//     DYSONFLOW_NOISE_GIVEN              whether the numbers come with the job
//     DYSONFLOW_ALL_REGISTERS            whether a thread may use all registers, as the compiler likes
//     DYSONFLOW_VECTOR_BYTES             size of a thread's lanes: 8 are one float64 or two float32 replicas
// Without a GPU a test compiles the same for a processor, and runs one thread after the other.
#pragma once

#include "group.hpp"

namespace dysonflow {
namespace DYSONFLOW_ISA {

namespace {

typedef typename LanesOf<ThreadReal>::type ThreadLanes;

// What one of `threads` threads does: every `threads`-th group. `scratch` holds `elements` for each thread.
DYSONFLOW_INLINE void advance_groups(const Job& job, ThreadLanes* scratch, std::int64_t elements,
                                     std::int64_t* stop, Outcome* outcomes, std::int64_t thread,
                                     std::int64_t threads) {
    constexpr int lanes = LanesOf<ThreadReal>::count;
    const std::int64_t warp = thread / kThreadsAbreast, groups = (job.replicas + lanes - 1) / lanes;
    const Elements<ThreadLanes> memory{scratch + warp * elements * kThreadsAbreast +
                                       thread % kThreadsAbreast};
    for (std::int64_t group = thread; group < groups; group += threads) {
        ThreadLoop loop(job, group * lanes, memory);
        const Outcome outcome = run_thread(loop, stop);
        if (outcome.failure == Failure::none) continue;
        outcomes[group] = outcome;
#if defined(__CUDACC_RTC__)
        atomicMin((long long*)stop, (long long)outcome.step);
#else
        if (outcome.step < *stop) *stop = outcome.step;
#endif
    }
}

}  // namespace

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow

#if defined(__CUDACC_RTC__)

// Elements of working memory that a thread needs.
extern "C" __global__ void working_memory(const dysonflow::Job* job, std::int64_t* elements) {
    *elements = dysonflow::DYSONFLOW_ISA::ThreadSizes(*job).total();
}

// Told the size of a block the compiler chooses registers well, and takes no notice of how many it may use.
#if DYSONFLOW_ALL_REGISTERS
#define DYSONFLOW_BOUNDS __launch_bounds__(dysonflow::DYSONFLOW_ISA::kThreadsAbreast)
#else
#define DYSONFLOW_BOUNDS
#endif

extern "C" __global__ void DYSONFLOW_BOUNDS
    advance(const dysonflow::Job* __restrict__ job, dysonflow::DYSONFLOW_ISA::ThreadLanes* scratch,
            std::int64_t elements, std::int64_t* stop, dysonflow::Outcome* outcomes) {
    dysonflow::DYSONFLOW_ISA::advance_groups(*job, scratch, elements, stop, outcomes,
                                             (std::int64_t)blockIdx.x * blockDim.x + threadIdx.x,
                                             (std::int64_t)gridDim.x * blockDim.x);
}

#else

extern "C" void working_memory(const dysonflow::Job* job, std::int64_t* elements) {
    *elements = dysonflow::DYSONFLOW_ISA::ThreadSizes(*job).total();
}

extern "C" void advance(const dysonflow::Job* job, dysonflow::DYSONFLOW_ISA::ThreadLanes* scratch,
                        std::int64_t elements, std::int64_t* stop, dysonflow::Outcome* outcomes,
                        int threads) {
    for (current_thread = 0; current_thread < threads; ++current_thread)
        dysonflow::DYSONFLOW_ISA::advance_groups(*job, scratch, elements, stop, outcomes, current_thread,
                                                 threads);
}

#endif

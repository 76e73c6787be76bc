// What the arithmetic units can do at most, for one instruction set: nothing but float64 multiply-adds in
// registers.
#include "job.hpp"
#include "lanes.hpp"

namespace dysonflow {
namespace DYSONFLOW_ISA {

double multiply_adds(std::int64_t rounds, std::int64_t* operations) {
    constexpr int kChains = 10;  // hides the latency of two units a core, and fits into 16 registers
    const Float64 x = broadcast<Float64>(0.999), y = broadcast<Float64>(0.001);
    Float64 value[kChains];
    DYSONFLOW_UNROLL
    for (int i = 0; i < kChains; ++i) value[i] = broadcast<Float64>(i);
    for (std::int64_t round = 0; round < rounds; ++round)
        DYSONFLOW_UNROLL
        for (int i = 0; i < kChains; ++i) value[i] = mad(value[i], x, y);
    DYSONFLOW_UNROLL
    for (int i = 1; i < kChains; ++i) value[0] = value[0] + value[i];
    *operations = rounds * kChains * kLanes64 * 2;
    return value[0][0];
}

}  // namespace DYSONFLOW_ISA
}  // namespace dysonflow

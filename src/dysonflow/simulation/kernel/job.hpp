// What the time loops need to know, in plain data: the border between the code that is compiled once
// (library.cpp) and the code that is compiled once per instruction set: one source file per family of systems.
#pragma once

#include "standard.hpp"

namespace dysonflow {

// Replicas that share one seed. A constant of the file format, so to speak: it must not depend on the
// instruction set, or results would.
constexpr int kReplicasPerBlock = 16;

// 32-bit words of random state per replica: one xoshiro128+ for float32, two for float64 (random.hpp).
constexpr int kStreamWords32 = 4;
constexpr int kStreamWords64 = 8;

enum class System { gibbs, ar1, wishart, teacher_student, dyson, two_layer_student };

enum class Activation { tanh, relu, linear };

enum class Failure { none, not_positive_definite, not_finite };

// Every array is C-contiguous. `Real` is float or double, as `single_precision` says.
struct Job {
    System system;
    bool single_precision;
    std::int64_t replicas;
    int hidden;   // rows of W
    int visible;  // columns of W
    int batch;
    int sweeps;
    double learning_rate;
    double mu_squared;
    double sigma_h;
    double noise_scale;         // teacher-student: scale eps of the label noise of one sample
    const void* target;         // Real (visible, visible): target covariance, or the teacher; of dyson
                                // (4, visible): coefficients of the step; of two_layer_student
                                // (features x inputs), (hidden x features) and (outputs x hidden) one
                                // after the other: the teacher's first layer, second layer, readout
    void* weights;              // Real (replicas, hidden, visible), updated in place
    void* chains;               // Real (replicas, batch, visible), in units of 1/mu, likewise, or null
    std::uint32_t* streams;     // (replicas, words), updated in place
    const void* noise;          // Real (replicas, steps, noise_per_step), or null: draw
    std::int64_t noise_per_step;
    const void* inputs;             // teacher-student: Real (.., steps, batch, visible), or null: draw;
                                    // two_layer_student: (steps, batch, features + outputs)
    std::int64_t inputs_per_replica;  // 0 where all replicas see the same inputs
    std::int64_t steps;
    std::int64_t first_step;  // steps made before this call, for messages
    // Of two_layer_student, whose features are the `visible`:
    int input_size;
    int output_size;
    Activation activation;
    double limit;            // of delta, beyond which a replica diverges
    std::int64_t* diverged;  // (replicas,) step at which each did, or -1; updated in place
};

struct Outcome {
    Failure failure = Failure::none;
    std::int64_t step = 0;
    std::int64_t replica = 0;
};

// The time loops of one family of systems, built for one instruction set.
struct Loops {
    int (*lanes)(const Job&);
    std::size_t (*scratch_bytes)(const Job&);
    // Advances the replicas [first, first + lanes). Gives up without an outcome once `*stop` is below the
    // step it is at: another group failed earlier than that.
    Outcome (*advance)(const Job&, std::int64_t first, void* scratch, const std::int64_t* stop);
};

// What is built for each instruction set. `multiply_adds` is nothing but float64 multiply-adds in registers: what
// the arithmetic units can do at most. It says how many floating-point operations they were; the value is there
// so that no compiler leaves them out.
#define DYSONFLOW_INSTRUCTION_SET(name)                                           \
    namespace name {                                                              \
    Loops gaussian_rbm();                                                         \
    Loops teacher_student();                                                      \
    Loops dyson();                                                                \
    Loops two_layer_student();                                                    \
    void hyperbolic_tangent(bool single_precision, const void* from, void* to, std::int64_t count); \
    double multiply_adds(std::int64_t rounds, std::int64_t* operations);          \
    }
DYSONFLOW_INSTRUCTION_SET(baseline)
DYSONFLOW_INSTRUCTION_SET(avx2)
DYSONFLOW_INSTRUCTION_SET(avx512)
#undef DYSONFLOW_INSTRUCTION_SET

}  // namespace dysonflow

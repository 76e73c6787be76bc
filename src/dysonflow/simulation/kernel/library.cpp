// The Python face of the compiled kernel: picks the instruction set, checks shapes, shares groups of
// replicas out over threads. All state lives in NumPy arrays of the caller, updated in place.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "job.hpp"

namespace py = pybind11;
using namespace dysonflow;

namespace {

// One instruction set's build of everything.
struct Variant {
    const char* name;
    Loops gaussian_rbm, teacher_student, dyson, two_layer_student;
    void (*hyperbolic_tangent)(bool, const void*, void*, std::int64_t);
    double (*multiply_adds)(std::int64_t rounds, std::int64_t* operations);

    const Loops& loops(System system) const {
        if (system == System::dyson) return dyson;
        if (system == System::two_layer_student) return two_layer_student;
        return system == System::teacher_student ? teacher_student : gaussian_rbm;
    }
};

#define DYSONFLOW_VARIANT(name)                                                            \
    Variant{#name, name::gaussian_rbm(), name::teacher_student(), name::dyson(),           \
            name::two_layer_student(), name::hyperbolic_tangent, name::multiply_adds}

std::vector<Variant> supported_variants() {
    std::vector<Variant> found;
#if defined(DYSONFLOW_X86_VARIANTS)
    __builtin_cpu_init();
    const bool avx2_here = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2_here && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        found.push_back(DYSONFLOW_VARIANT(avx512));
    if (avx2_here) found.push_back(DYSONFLOW_VARIANT(avx2));
#endif
    found.push_back(DYSONFLOW_VARIANT(baseline));
    return found;
}

// The fastest first.
const std::vector<Variant>& variants() {
    static const std::vector<Variant> found = supported_variants();
    return found;
}

const Variant& variant_named(const std::string& name) {
    if (name.empty()) return variants().front();
    for (const Variant& variant : variants())
        if (name == variant.name) return variant;
    throw std::invalid_argument("instruction set '" + name + "' is not available on this machine");
}

// Memory aligned to a cache line, so that no vector straddles two.
class Scratch {
public:
    explicit Scratch(std::size_t bytes) : memory_(new char[bytes + 64]) {
        const auto address = reinterpret_cast<std::uintptr_t>(memory_.get());
        aligned_ = memory_.get() + (64 - address % 64) % 64;
        std::memset(aligned_, 0, bytes);
    }
    void* data() { return aligned_; }

private:
    std::unique_ptr<char[]> memory_;
    char* aligned_;
};

Outcome run_job(const Job& job, const Loops& loops, int threads) {
    const int lanes = loops.lanes(job);
    const std::int64_t groups = (job.replicas + lanes - 1) / lanes;
    const std::size_t bytes = loops.scratch_bytes(job);
    std::atomic<std::int64_t> next{0};
    // The earliest step at which a replica failed. Groups behind it go on up to that step, so that the
    // failure reported is the first one whatever the number of threads.
    std::int64_t stop = std::numeric_limits<std::int64_t>::max();
    std::vector<Outcome> outcomes(groups);

    const auto work = [&](Scratch& scratch) {
        for (std::int64_t group; (group = next.fetch_add(1)) < groups;) {
            const Outcome outcome = loops.advance(job, group * lanes, scratch.data(), &stop);
            outcomes[group] = outcome;
            if (outcome.failure == Failure::none) continue;
#if defined(__GNUC__)
            std::int64_t seen = __atomic_load_n(&stop, __ATOMIC_RELAXED);
            while (outcome.step < seen &&
                   !__atomic_compare_exchange_n(&stop, &seen, outcome.step, false, __ATOMIC_RELAXED,
                                                __ATOMIC_RELAXED)) {}
#else
            stop = std::min(stop, outcome.step);
#endif
        }
    };

    const int workers = (int)std::max<std::int64_t>(1, std::min<std::int64_t>(threads, groups));
    std::vector<std::unique_ptr<Scratch>> scratch;
    for (int i = 0; i < workers; ++i) scratch.push_back(std::make_unique<Scratch>(bytes));
    std::vector<std::thread> pool;
    try {
        for (int i = 1; i < workers; ++i) pool.emplace_back(work, std::ref(*scratch[i]));
    } catch (const std::system_error&) {
        // No more threads to be had: those that run, and this one, do all the work.
    }
    work(*scratch[0]);
    for (std::thread& thread : pool) thread.join();

    Outcome first;
    for (const Outcome& outcome : outcomes)
        if (outcome.failure != Failure::none &&
            (first.failure == Failure::none || outcome.step < first.step ||
             (outcome.step == first.step && outcome.replica < first.replica)))
            first = outcome;
    return first;
}

template <class T>
T* checked(const py::array& array, const std::vector<std::int64_t>& shape, const char* name,
           bool writeable) {
    const bool right_type = py::isinstance<py::array_t<T>>(array);
    bool good = right_type && (array.flags() & py::array::c_style) && array.ndim() == (int)shape.size();
    for (std::size_t i = 0; good && i < shape.size(); ++i) good = array.shape(i) == shape[i];
    if (!good)
        throw std::invalid_argument(std::string(name) + ": wrong shape, type or memory order");
    if (writeable && !array.writeable())
        throw std::invalid_argument(std::string(name) + ": not writeable");
    return (T*)array.data();
}

System system_named(const std::string& name) {
    if (name == "gibbs") return System::gibbs;
    if (name == "ar1") return System::ar1;
    if (name == "wishart") return System::wishart;
    if (name == "teacher_student") return System::teacher_student;
    if (name == "dyson") return System::dyson;
    throw std::invalid_argument("no system '" + name + "'");
}

template <class Real>
py::object advance(const std::string& system, py::array weights, py::object chains, py::array streams,
                   py::array target, int batch, int sweeps, double learning_rate, double mu_squared,
                   double sigma_h, double noise_scale, std::int64_t steps, std::int64_t first_step,
                   int threads, const std::string& instruction_set, py::object noise,
                   py::object inputs) {
    Job job{};
    job.system = system_named(system);
    job.single_precision = sizeof(Real) == 4;
    if (weights.ndim() != 3) throw std::invalid_argument("weights: must have three axes");
    job.replicas = weights.shape(0);
    job.hidden = (int)weights.shape(1);
    job.visible = (int)weights.shape(2);
    job.batch = batch;
    job.sweeps = sweeps;
    job.learning_rate = learning_rate;
    job.mu_squared = mu_squared;
    job.sigma_h = sigma_h;
    job.noise_scale = noise_scale;
    job.steps = steps;
    job.first_step = first_step;
    const std::int64_t r = job.replicas, m = job.hidden, n = job.visible, b = batch;
    const bool teacher = job.system == System::teacher_student;
    const bool dyson = job.system == System::dyson;
    if (dyson && (m != 1 || job.single_precision))
        throw std::invalid_argument("levels are one row of float64");
    if (r < 1 || m < 1 || n < 1 || b < 1 || steps < 0 || (!teacher && sweeps < 1) || (teacher && m != n))
        throw std::invalid_argument("sizes out of range");

    job.weights = checked<Real>(weights, {r, m, n}, "weights", true);
    job.target = checked<Real>(target, {dyson ? 4 : n, n}, "target", false);
    job.streams = checked<std::uint32_t>(
        streams, {r, job.single_precision ? kStreamWords32 : kStreamWords64}, "streams", true);
    if (job.system == System::gibbs || job.system == System::ar1)
        job.chains = checked<Real>(py::array(chains), {r, b, n}, "chains", true);

    const std::int64_t wishart = b < n ? n * b : n * (n + 1) / 2;
    switch (job.system) {
        case System::gibbs: job.noise_per_step = sweeps * b * (m + n); break;
        case System::ar1: job.noise_per_step = b * n; break;
        case System::wishart: job.noise_per_step = wishart; break;
        case System::teacher_student:
            job.noise_per_step = n * (n + 1) / 2 + (inputs.is_none() ? wishart : 0);
            break;
        case System::dyson: job.noise_per_step = n; break;
        case System::two_layer_student: break;  // has a face of its own, below
    }
    if (!noise.is_none())
        job.noise =
            checked<Real>(py::array(noise), {r, steps, job.noise_per_step}, "noise", false);
    if (!inputs.is_none()) {
        if (!teacher) throw std::invalid_argument("inputs: only the teacher-student model has them");
        const py::array array(inputs);
        const bool own = array.ndim() == 4;
        job.inputs = own ? checked<Real>(array, {r, steps, b, n}, "inputs", false)
                         : checked<Real>(array, {steps, b, n}, "inputs", false);
        job.inputs_per_replica = own ? steps * b * n : 0;
    }

    const Variant& variant = variant_named(instruction_set);
    Outcome outcome;
    {
        py::gil_scoped_release release;
        outcome = run_job(job, variant.loops(job.system), threads);
    }
    if (outcome.failure == Failure::none) return py::none();
    return py::make_tuple(outcome.replica, outcome.step,
                          outcome.failure == Failure::not_finite ? "not finite"
                                                                 : "not positive definite");
}

Activation activation_named(const std::string& name) {
    if (name == "tanh") return Activation::tanh;
    if (name == "relu") return Activation::relu;
    if (name == "linear") return Activation::linear;
    throw std::invalid_argument("no activation '" + name + "'");
}

template <class Real>
void advance_two_layer(py::array weights, py::array diverged, py::array streams, py::array target,
                       const std::string& activation, int batch, int input_size, int output_size,
                       double learning_rate, double limit, std::int64_t steps,
                       std::int64_t first_step, int threads, const std::string& instruction_set,
                       py::object noise, py::object samples) {
    Job job{};
    job.system = System::two_layer_student;
    job.single_precision = sizeof(Real) == 4;
    if (weights.ndim() != 3) throw std::invalid_argument("weights: must have three axes");
    const std::int64_t r = weights.shape(0), k = weights.shape(1), l = weights.shape(2), b = batch;
    const std::int64_t i = input_size, o = output_size;
    if (r < 1 || k < 1 || l < 1 || b < 1 || i < 1 || o < 1 || steps < 0)
        throw std::invalid_argument("sizes out of range");
    job.replicas = r;
    job.hidden = (int)k;
    job.visible = (int)l;
    job.batch = batch;
    job.input_size = input_size;
    job.output_size = output_size;
    job.activation = activation_named(activation);
    job.learning_rate = learning_rate;
    job.limit = limit;
    job.steps = steps;
    job.first_step = first_step;
    job.weights = checked<Real>(weights, {r, k, l}, "weights", true);
    job.diverged = checked<std::int64_t>(diverged, {r}, "diverged", true);
    job.target = checked<Real>(target, {l * i + k * l + o * k}, "target", false);
    job.streams = checked<std::uint32_t>(
        streams, {r, job.single_precision ? kStreamWords32 : kStreamWords64}, "streams", true);
    job.noise_per_step = b * i;
    if (!noise.is_none())
        job.noise = checked<Real>(py::array(noise), {r, steps, b * i}, "noise", false);
    if (!samples.is_none())
        job.inputs = checked<Real>(py::array(samples), {steps, b, l + o}, "samples", false);
    const Variant& variant = variant_named(instruction_set);
    py::gil_scoped_release release;
    run_job(job, variant.loops(job.system), threads);
}

template <class Real>
py::array_t<Real> hyperbolic_tangent(py::array_t<Real, py::array::c_style | py::array::forcecast> x,
                                     const std::string& instruction_set) {
    py::array_t<Real> y(x.size());
    variant_named(instruction_set).hyperbolic_tangent(sizeof(Real) == 4, x.data(), y.mutable_data(), x.size());
    return y;
}

}  // namespace

PYBIND11_MODULE(_kernel, module) {
    module.doc() = "Compiled time loops of dysonflow; see dysonflow.simulation.kernel.";
    module.attr("REPLICAS_PER_BLOCK") = kReplicasPerBlock;
    module.attr("SYSTEMS") = std::vector<std::string>{"gibbs", "ar1", "wishart", "teacher_student", "dyson",
                                                       "two_layer_student"};
    module.def("instruction_sets", [] {
        std::vector<std::string> names;
        for (const Variant& variant : variants()) names.push_back(variant.name);
        return names;
    });
    module.def("multiply_adds", [](std::int64_t rounds) {
        std::int64_t operations = 0;
        const double value = variants().front().multiply_adds(rounds, &operations);
        return py::make_tuple(operations, value);
    });
    module.def("advance64", &advance<double>);
    module.def("advance32", &advance<float>);
    module.def("advance_two_layer64", &advance_two_layer<double>);
    module.def("advance_two_layer32", &advance_two_layer<float>);
    module.def("tanh64", &hyperbolic_tangent<double>);
    module.def("tanh32", &hyperbolic_tangent<float>);
}

"""The kernel's source for GPUs, without one: NVRTC compiles it, and on a processor both the source
and what NVRTC makes of it have the bits of the CPU kernel. Only a GPU shows whether its arithmetic
is the same (tests/gpu)."""

import cubin
import numpy as np
import pytest
from emulated_card import EmulatedCard, compiler
from small_kernels import MU_SQUARED, levels, network, rbm, student

from dysonflow import models
from dysonflow.errors import ConfigError, DivergedError
from dysonflow.simulation import ensemble
from dysonflow.simulation.devices import Device
from dysonflow.simulation.implementation import choose, place_of
from dysonflow.simulation.kernel import gpu, library, nvrtc

CONSTANTS = {"gibbs": 10, "ar1": 10, "wishart": 10, "teacher_student": 2}
needs_nvrtc = pytest.mark.skipif(bool(nvrtc.why_unavailable()), reason=nvrtc.why_unavailable())


# Both round a b + c once; the baseline does not.
needs_twin = pytest.mark.skipif(
    not (library.available() and "avx2" in library.instruction_sets() and compiler()),
    reason="there is no kernel with AVX2, or no compiler for its twin",
)


def sampled(sampler):
    return lambda **changes: rbm(sampler, **({"learning_rate": 0.1} | changes))


MAKERS = {
    "gibbs": sampled("gibbs"),
    "ar1": sampled("ar1"),
    "wishart": sampled("wishart"),
    "teacher_student": student,
    "two_layer_student": network,
    "dyson": levels,
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder of what was compiled for this processor, once for all tests."""
    return tmp_path_factory.mktemp("emulated")


@pytest.fixture(params=["source", pytest.param("ptx", marks=needs_nvrtc)])
def card(request, built, monkeypatch):
    emulated = EmulatedCard(built, from_ptx=request.param == "ptx")
    monkeypatch.setattr(gpu, "card", lambda: emulated)
    return emulated


def same(first, second):
    first, second = first.state(), second.state()
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


# --- compiled for GPUs ----------------------------------------------------------------------------


@needs_nvrtc
@pytest.mark.parametrize("system", nvrtc.FAMILIES)
@pytest.mark.parametrize(
    ("architecture", "dtype"), [("sm_80", "float32"), ("sm_90", "float64"), ("sm_100", "float64")]
)
def test_nvrtc_compiles_every_system(architecture, dtype, system):
    # Levels are float64 alone.
    dtype = "float64" if system == "dyson" else dtype
    variant = nvrtc.Variant(system, dtype, CONSTANTS.get(system, 0))
    code = nvrtc.compiled(variant, gpu.layout(), architecture, in_haste=True)
    assert code.startswith(b"\x7fELF") and b"working_memory" in code


@needs_nvrtc
def test_the_compiler_keeps_to_the_registers_that_it_is_given():
    def registers(most):
        variant = nvrtc.Variant("wishart", "float64", 10, registers=most)
        return cubin.resources(nvrtc.compiled(variant, gpu.layout(), "sm_90"))[0]

    assert registers(128) <= 128 < registers(255)


@needs_nvrtc
def test_the_compiler_sees_that_a_record_is_laid_out_otherwise():
    variant = nvrtc.Variant("dyson", "float64")
    wrong = gpu.layout().replace("Job, steps) == ", "Job, steps) == 1")
    with pytest.raises(RuntimeError, match=r"gpu\.py says otherwise"):
        nvrtc.compiled(variant, wrong, "sm_90", in_haste=True)


class TestCache:
    @pytest.fixture(autouse=True)
    def compiler(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(nvrtc, "nvrtc_version", lambda: (13, 0))
        self.asked = []

        def compiled(variant, layout, architecture):
            self.asked.append((variant, architecture))
            return f"{variant.system} for {architecture}".encode()

        monkeypatch.setattr(nvrtc, "compiled", compiled)
        self.folder = tmp_path / "dysonflow" / "kernel"

    def code(self, system="dyson", architecture="sm_90"):
        return nvrtc.machine_code(nvrtc.Variant(system, "float64"), gpu.layout(), architecture)

    def test_every_case_is_compiled_once(self):
        for _ in range(2):
            assert self.code() == b"dyson for sm_90"
            assert self.code(architecture="sm_80") == b"dyson for sm_80"
            assert self.code("ar1") == b"ar1 for sm_90"
        assert len(self.asked) == 3 == len(list(self.folder.iterdir()))

    def test_another_source_or_compiler_is_another_case(self, monkeypatch):
        self.code()
        monkeypatch.setattr(nvrtc, "nvrtc_version", lambda: (13, 1))
        self.code()
        files = nvrtc._sources("dyson")
        assert "job.hpp" in [path.name for path, _ in files]
        changed = [(path, text + "//") for path, text in files]
        monkeypatch.setattr(nvrtc, "_sources", lambda family: changed)
        self.code()
        assert len(self.asked) == 3

    @pytest.mark.parametrize("damage", [b"", b"x" * 10, b"x" * 100])
    def test_a_damaged_file_is_made_anew(self, damage, caplog):
        self.code()
        (path,) = self.folder.iterdir()
        path.write_bytes(damage)
        assert self.code() == b"dyson for sm_90" and "is damaged" in caplog.text
        assert self.code() == b"dyson for sm_90" and len(self.asked) == 2

    def test_without_room_it_is_compiled_each_time(self, caplog):
        # A folder that cannot be made: a file is in its place.
        self.folder.parent.mkdir()
        self.folder.write_text("")
        for _ in range(2):
            assert self.code() == b"dyson for sm_90"
        assert len(self.asked) == 2 and "compiled again the next time" in caplog.text


# --- the bits of the CPU kernel -------------------------------------------------------------------


@needs_twin
@pytest.mark.parametrize("system", MAKERS)
def test_a_thread_has_the_bits_of_a_lane(card, system):
    cpu = MAKERS[system](replicas=77, instruction_set="avx2")
    thread = MAKERS[system](replicas=77, device="cuda")
    cpu.advance(40)
    thread.advance(13)
    thread.advance(27)
    same(cpu, thread)
    # More groups than threads, and one call in several launches.
    assert max(card.launches) == card.side_by_side < 77 and len(card.launches) > 2


@needs_twin
@pytest.mark.parametrize("system", ["gibbs", "wishart", "two_layer_student"])
def test_two_replicas_of_float32_share_a_thread(card, system):
    cpu = MAKERS[system](replicas=35, instruction_set="avx2", dtype="float32")
    thread = MAKERS[system](replicas=35, device="cuda", dtype="float32")
    for ensemble_ in (cpu, thread):
        ensemble_.advance(20)
    same(cpu, thread)


@needs_twin
@pytest.mark.parametrize(
    ("sampler", "shape"),
    [
        # On the chip: a last strip that is not full, more sweeps than are drawn at once, numbers of
        # which a strip does not use all that are drawn together.
        ("gibbs", {"sites": 10, "batch_size": 21, "sweeps": 6}),
        ("gibbs", {"sites": 7, "batch_size": 5, "sweeps": 1}),
        ("ar1", {"sites": 10, "batch_size": 21, "sweeps": 6}),
        ("ar1", {"sites": 7, "batch_size": 5, "sweeps": 1}),
        ("wishart", {"sites": 7, "batch_size": 21}),
        ("gibbs", {"sites": 12, "batch_size": 9}),
        ("wishart", {"sites": 13, "batch_size": 16}),
        # In tiles of which parts are left: a batch below N, and more than the chip holds.
        ("wishart", {"sites": 7, "batch_size": 3}),
        ("gibbs", {"sites": 15, "batch_size": 7}),
        ("ar1", {"sites": 15, "batch_size": 7}),
    ],
)
def test_shapes(card, sampler, shape):
    pair = [
        rbm(sampler, replicas=5, learning_rate=0.1, **shape, **where)
        for where in ({"instruction_set": "avx2"}, {"device": "cuda"})
    ]
    for one in pair:
        one.advance(6)
    same(*pair)


@needs_twin
@pytest.mark.parametrize(
    "shape",
    # The second has the loop on the chip, in strips of chains; neither number of chains is a
    # multiple of those that are taken together.
    [{"sites": 7, "hidden": 5, "batch_size": 21}, {"sites": 10, "batch_size": 21}],
    ids=["any size", "on the chip"],
)
def test_given_noise(card, shape):
    shape = shape | {"sweeps": 4}
    pair = [
        rbm("gibbs", replicas=5, **shape, **where)
        for where in ({"instruction_set": "avx2"}, {"device": "cuda"})
    ]
    noise = np.random.default_rng(3).standard_normal((5, 3, pair[0].noise_per_step()))
    for one in pair:
        one.advance(3, noise=noise)
    same(*pair)
    with pytest.raises(ValueError, match="noise: wrong shape"):
        pair[1].advance(3, noise=noise[:, :2])


@needs_twin
def test_given_inputs_go_on_from_launch_to_launch(card):
    rng = np.random.default_rng(4)
    steps = 3 * gpu.FIRST_STRIDE
    for inputs in (rng.normal(size=(steps, 16, 2)), rng.normal(size=(9, steps, 16, 2))):
        pair = student(replicas=9, instruction_set="avx2"), student(replicas=9, device="cuda")
        for one in pair:
            one.advance(steps, inputs=inputs)
        same(*pair)
    samples = rng.normal(size=(steps, 4, 35))
    pair = network(replicas=9, instruction_set="avx2"), network(replicas=9, device="cuda")
    for one in pair:
        one.advance(steps, samples=samples)
    same(*pair)


@needs_twin
def test_the_first_failure_is_reported_as_on_a_cpu(card):
    # K of these two is not positive definite soon, of one of them at the start of a step sooner.
    starts = np.zeros((100, 10, 10))
    starts[[40, 90]] = 2.999 * np.eye(10), 2.9 * np.eye(10)
    said = []
    for where in ({"instruction_set": "avx2"}, {"device": "cuda"}):
        one = rbm("wishart", replicas=100, weights=starts, learning_rate=3.0, **where)
        with pytest.raises(DivergedError) as failure:
            one.advance(200)
        with pytest.raises(DivergedError):
            one.advance(1)
        said.append((failure.value.replica, failure.value.step, failure.value.reason))
    assert said[0] == said[1]


@needs_twin
@pytest.mark.parametrize("heavy", [0, 9])
@pytest.mark.parametrize("sampler", ["gibbs", "ar1"])
def test_what_is_not_positive_definite_is_seen_in_one_row(card, sampler, heavy):
    # A = x x^T has the eigenvalue 1.03, and one row whose sum says so, off its diagonal alone.
    x = np.full(10, 0.12)
    x[heavy] = 0.95
    starts = np.zeros((4, 10, 10))
    starts[2, 0] = np.sqrt(MU_SQUARED) * x
    for where in ({"instruction_set": "avx2"}, {"device": "cuda"}):
        one = rbm(sampler, replicas=4, weights=starts, **where)
        with pytest.raises(DivergedError) as failure:
            one.advance(1)
        assert (failure.value.replica, failure.value.step) == (2, 0)


@needs_twin
def test_a_replica_that_diverges_stands_still(card):
    weights = np.zeros((9, 16, 32))
    weights[4] = 1e9
    cpu, thread = [
        network(replicas=9, weights=weights, limit=1e6, activation="linear", **where)
        for where in ({"instruction_set": "avx2"}, {"device": "cuda"})
    ]
    for one in (cpu, thread):
        one.advance(5)
    # Its generator goes on as long as any of its group is trained, so that alone may differ.
    np.testing.assert_array_equal(cpu.weights, thread.weights)
    np.testing.assert_array_equal(thread.diverged, np.where(np.arange(9) == 4, 0, -1))
    np.testing.assert_array_equal(cpu.diverged, thread.diverged)


# --- state, memory, devices -----------------------------------------------------------------------


@needs_twin
def test_a_run_goes_on_from_its_state_in_any_shard(card):
    whole = rbm("gibbs", replicas=64, device="cuda")
    whole.advance(12)
    parts = []
    for first_block in (0, 2):
        before = rbm("gibbs", blocks=2, first_block=first_block, device="cuda")
        before.advance(5)
        after = rbm("gibbs", blocks=2, first_block=first_block, device="cuda", seed=99)
        after.load(before.state())
        after.advance(7)
        parts.append(after.weights)
    np.testing.assert_array_equal(np.concatenate(parts), whole.weights)


@needs_twin
def test_too_little_memory_is_one_line(built, monkeypatch):
    small = EmulatedCard(built, size=10**6)
    monkeypatch.setattr(gpu, "card", lambda: small)
    with pytest.raises(ConfigError, match=r"out of memory on emulated.*lower shard_size") as error:
        rbm("gibbs", replicas=5000, device="cuda").advance(1)
    assert "\n" not in str(error.value)
    # What did not fit is not held.
    assert small.used == 0
    fitting = int(str(error.value).rsplit(" ", 1)[1])
    assert fitting % 64 == 0 and 0 < fitting < 5000


@needs_twin
def test_little_memory_is_shared_by_fewer_threads(built, monkeypatch, card):
    whole = rbm("gibbs", replicas=77, device="cuda")
    whole.advance(5)
    assert max(card.launches) == 64
    small = EmulatedCard(built, size=1_000_000)
    monkeypatch.setattr(gpu, "card", lambda: small)
    cut = rbm("gibbs", replicas=77, device="cuda")
    cut.advance(5)
    assert len(small.launches) > 1 and max(small.launches) == gpu.BLOCK
    same(whole, cut)


@needs_twin
def test_an_ensemble_on_a_gpu_is_that_of_the_cpu(card):
    for model, more in (("gaussian_rbm", {"sampler": "gibbs"}), ("teacher_student", {})):
        run = models.hyperparameters_of(model).from_config(
            {"replicas": 70, "burn_in": 0, "steps": 12, "snapshots": 3, **more}
        )
        simulation = models.load(model).compiled
        cpu = ensemble.train_in_memory(simulation, run)
        found = ensemble.train_in_memory(simulation, run, Device("cuda", "emulated"))
        np.testing.assert_array_equal(cpu.weights, found.weights)
        np.testing.assert_array_equal(cpu.loss, found.loss)


def test_the_kernel_is_chosen_where_it_can_run(monkeypatch):
    cuda = Device("cuda", "a card")

    def chosen(model, **values):
        values = {"burn_in": 0, "steps": 9, "snapshots": 1} | values
        run = models.hyperparameters_of(model).from_config(values)
        system = models.load(model)
        place = place_of(system, cuda, run)
        return place.kind, choose(system, place, run).name

    monkeypatch.setattr(gpu, "card", lambda: EmulatedCard(None))
    monkeypatch.setattr(gpu, "why_unavailable", lambda: "")
    for model in ("gaussian_rbm", "teacher_student", "two_layer_student", "dyson"):
        assert chosen(model) == ("cuda", "compiled kernel (sm_90)")
    # No network has a kernel, and large matrices are left to torch.
    assert chosen("mlp")[1].startswith("torch (the model has no")
    assert chosen("gaussian_rbm", sites=16)[1] == "compiled kernel (sm_90)"
    assert chosen("gaussian_rbm", sites=17)[1].startswith("torch (17 x 17 weights")
    assert chosen("teacher_student", size=32)[1] == "compiled kernel (sm_90)"
    assert chosen("teacher_student", size=33)[1].startswith("torch (33 x 33 weights")
    assert chosen("dyson", size=33)[0] == "cpu"
    assert chosen("dyson", dynamics="matrix")[0] == "cpu"

    monkeypatch.setattr(gpu, "why_unavailable", lambda: "there is no driver")
    assert chosen("gaussian_rbm") == ("cuda", "torch (there is no driver)")
    assert chosen("dyson")[0] == "cpu"
    # Whoever plans has no run, and does not look at a card.
    assert choose(models.load("gaussian_rbm"), cuda).name.startswith("torch (only a job")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("CUDA_ERROR_DEVICE_UNAVAILABLE: busy", "exclusive mode"),
        ("CUDA_ERROR_NO_DEVICE: none", "CUDA_VISIBLE_DEVICES"),
        ("CUDA_ERROR_NO_BINARY_FOR_GPU", "update the driver"),
        ("CUDA_ERROR_LAUNCH_TIMEOUT", "screen"),
        ("CUDA_ERROR_ECC_UNCORRECTABLE", "ECC_UNCORRECTABLE"),
    ],
)
def test_what_the_driver_refuses_is_one_line(said, words, monkeypatch):
    monkeypatch.setattr(nvrtc, "nvrtc_version", lambda: (13, 0))
    with pytest.raises(ConfigError, match=words) as error, gpu.explained("card"):
        raise RuntimeError(said)
    assert "\n" not in str(error.value)
    with pytest.raises(MemoryError), gpu.explained("card"):
        raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: too much")


@pytest.mark.parametrize(
    ("driver", "compiler", "fits"),
    [
        (12040, (12, 8), True),
        (12040, (13, 0), False),
        (13000, (13, 5), True),
        (13000, (12, 4), True),
    ],
)
def test_a_driver_is_as_new_as_the_compiler_by_its_major_version(driver, compiler, fits):
    why = gpu.why_too_old(driver, compiler)
    assert (why == "") == fits
    if not fits:
        assert "CUDA 12.4" in why and "cuda-bindings==12.*" in why


def test_without_a_driver_the_reason_is_one_line():
    why = gpu.why_unavailable()
    assert "\n" not in why


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("CUDA_ERROR_NO_DEVICE", "no GPU is visible here"),
        ("CUDA_ERROR_DEVICE_UNAVAILABLE", "Some Card is held by another process"),
        ("CUDA_ERROR_LAUNCH_TIMEOUT", "Some Card also drives a screen"),
        ("CUDA_ERROR_UNKNOWN: strange", "Some Card does not work (CUDA_ERROR_UNKNOWN"),
    ],
)
def test_a_card_that_its_driver_refuses_is_one_line_with_the_fix(said, expected):
    assert gpu.why_driver_refused(said, "Some Card").startswith(expected)

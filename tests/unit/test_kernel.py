"""The compiled kernel against the reference, against theory, and against itself."""

import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from small_kernels import MU_SQUARED, rbm, ring_covariance, student

from dysonflow.errors import DivergedError
from dysonflow.simulation import reference
from dysonflow.simulation.kernel import library

if not library.available():
    pytest.skip(library.why_unavailable(), allow_module_level=True)

SAMPLERS = ("gibbs", "ar1", "wishart")
SIGMAS = 5.0


def stationary_start(sites, replicas):
    """W with W^T W at the fixed point of the drift, where that has full rank."""
    values, vectors = np.linalg.eigh(np.linalg.inv(ring_covariance(sites)))
    root = (vectors * np.sqrt(np.maximum(MU_SQUARED - values, 0))) @ vectors.T
    return np.broadcast_to(root, (replicas, sites, sites))


def bartlett_noise(rng, batch, sites, size):
    """Lower triangles of Bartlett's factor, row by row."""
    rows, columns = np.tril_indices(sites)
    noise = rng.standard_normal((*size, len(rows)))
    diagonal = rows == columns
    chi = np.sqrt(rng.chisquare(batch - np.arange(sites), size=(*size, sites)))
    noise[..., diagonal] = chi
    return noise


def lower(entries, sites):
    matrix = torch.zeros(sites, sites, dtype=torch.float64)
    matrix[tuple(torch.tril_indices(sites, sites))] = entries
    return matrix


# --- the same noise gives the same values ---------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("sites", "hidden", "batch", "sweeps"),
    [
        (10, 10, 16, 3),
        (10, 10, 4, 1),
        (10, 10, 37, 2),
        (1, 1, 1, 1),
        (2, 2, 3, 2),
        (3, 3, 2, 4),
        (7, 5, 9, 5),
        (5, 9, 5, 3),
        (9, 1, 8, 6),
        (16, 16, 8, 7),
        (33, 20, 20, 2),
        (64, 64, 5, 3),
        (64, 64, 65, 2),
    ],
)
def test_rbm_equals_the_reference(sampler, dtype, sites, hidden, batch, sweeps):
    replicas, steps, sigma_h = 19, 3, 0.8
    rng = np.random.default_rng(3)
    ensemble = rbm(
        sampler, sites, hidden=hidden, batch_size=batch, sweeps=sweeps, sigma_h=sigma_h,
        replicas=replicas, learning_rate=0.1, dtype=dtype, threads=2, initial_std=0.2,
    )  # fmt: skip
    if sampler == "wishart" and batch >= sites:
        noise = bartlett_noise(rng, batch, sites, (replicas, steps))
    else:
        noise = rng.standard_normal((replicas, steps, ensemble.noise_per_step()))
    before = ensemble.state()
    ensemble.advance(steps, noise=noise)
    after = ensemble.state()
    common = {
        "target": torch.tensor(ring_covariance(sites)),
        "learning_rate": 0.1,
        "mu_squared": MU_SQUARED,
        "sigma_h": sigma_h,
    }
    tolerance = 1e-11 if dtype == "float64" else 1e-4
    for r in (0, 7, 18):
        weights = torch.tensor(before["weights"][r], dtype=torch.float64)
        if sampler != "wishart":
            visible = torch.tensor(before["chains"][r], dtype=torch.float64) / MU_SQUARED**0.5
        for numbers in torch.tensor(noise[r]):
            if sampler == "gibbs":
                per_sweep = numbers.reshape(sweeps, -1)
                xi = per_sweep[:, : batch * hidden].reshape(sweeps, batch, hidden)
                eta = per_sweep[:, batch * hidden :].reshape(sweeps, batch, sites)
                weights, visible = reference.rbm_gibbs_step(weights, visible, xi, eta, **common)
            elif sampler == "ar1":
                xi = numbers.reshape(batch, sites)
                weights, visible = reference.rbm_ar1_step(
                    weights, visible, xi, sweeps=sweeps, **common
                )
            else:
                factor = (
                    numbers.reshape(sites, batch) if batch < sites else lower(numbers, sites)
                )  # fmt: skip
                weights = reference.rbm_wishart_step(weights, factor, batch_size=batch, **common)
        np.testing.assert_allclose(after["weights"][r], weights, rtol=0, atol=tolerance)
        if sampler != "wishart":
            chains = MU_SQUARED**0.5 * visible
            np.testing.assert_allclose(after["chains"][r], chains, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("size", "batch"), [(2, 16), (1, 1), (5, 3), (12, 20)])
def test_teacher_student_equals_the_reference(size, batch, shared, dtype):
    replicas, steps = 18, 4
    rng = np.random.default_rng(4)
    teacher = rng.standard_normal((size, size))
    ensemble = student(teacher=teacher, batch_size=batch, replicas=replicas, dtype=dtype, threads=2)
    inputs = rng.standard_normal((steps, batch, size) if shared else (replicas, steps, batch, size))
    noise = rng.standard_normal((replicas, steps, size * (size + 1) // 2))
    start = ensemble.weights
    ensemble.advance(steps, noise=noise, inputs=inputs)
    for r in (0, 17):
        weights = torch.tensor(start[r], dtype=torch.float64)
        for t in range(steps):
            weights = reference.teacher_student_step(
                weights,
                torch.tensor(inputs[t] if shared else inputs[r, t]),
                reference.goe_noise(torch.tensor(noise[r, t]), size),
                teacher=torch.tensor(teacher),
                learning_rate=0.1,
                noise_scale=0.1,
            )
        tolerance = 1e-12 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(ensemble.weights[r], weights, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("size", "batch"), [(2, 16), (4, 3)])
def test_teacher_student_takes_the_factor_of_the_inputs(size, batch):
    replicas = 3
    rng = np.random.default_rng(4)
    ensemble = student(teacher=np.eye(size), batch_size=batch, replicas=replicas)
    goe = rng.standard_normal((replicas, 1, size * (size + 1) // 2))
    if batch < size:
        factors = rng.standard_normal((replicas, 1, size * batch))
    else:
        factors = bartlett_noise(rng, batch, size, (replicas, 1))
    start = ensemble.weights
    ensemble.advance(1, noise=np.concatenate([factors, goe], axis=2))
    for r in range(replicas):
        numbers = torch.tensor(factors[r, 0])
        factor = numbers.reshape(size, batch) if batch < size else lower(numbers, size)
        inputs = torch.zeros(batch, size, dtype=torch.float64)
        inputs[: factor.shape[1]] = factor.T  # any x with x^T x = T T^T
        expected = reference.teacher_student_step(
            torch.tensor(start[r]),
            inputs,
            reference.goe_noise(torch.tensor(goe[r, 0]), size),
            teacher=torch.eye(size, dtype=torch.float64),
            learning_rate=0.1,
            noise_scale=0.1,
        )
        np.testing.assert_allclose(ensemble.weights[r], expected, rtol=0, atol=1e-13)


# --- random numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", library.instruction_sets())
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_normals(dtype, name):
    # At W = 0 the visible units are the drawn normals.
    replicas, batch, sites, calls = 512, 32, 32, 8
    ensemble = rbm(
        "ar1", sites, replicas=replicas, batch_size=batch, dtype=dtype, threads=2,
        weights=np.zeros((replicas, sites, sites)), instruction_set=name, mu_squared=1.0,
    )  # fmt: skip
    draws = []
    for _ in range(calls):
        ensemble.advance(1)
        draws.append(ensemble.state()["chains"].reshape(replicas, -1).astype(np.float64))
    z = np.stack(draws)  # call, replica, place
    count = z.size
    for power, moment, fourth in [(1, 0, 1), (2, 1, 3), (3, 0, 15), (4, 3, 105), (6, 15, 10395)]:
        error = np.sqrt((fourth - moment**2) / count)
        assert abs(np.mean(z**power) - moment) < SIGMAS * error, power
    for level in (0.5, 1, 2, 3, 4, 4.5):
        for tail in (z > level, z < -level):
            expected = count * stats.norm.sf(level)
            assert abs(tail.sum() - expected) < SIGMAS * np.sqrt(expected) + 1, level
    assert stats.kstest(z[0].ravel()[:500_000], "norm").pvalue > 1e-6
    # Neighbours in draw order (among them the two of one transform), replicas, calls; also squares.
    for w in (z, (z**2 - 1) / np.sqrt(2)):
        for lag in range(1, 9):
            pairs = w[:, :, lag:] * w[:, :, :-lag]
            assert abs(pairs.mean()) < SIGMAS / np.sqrt(pairs.size), lag
        for x, y in ((w[:, :-1], w[:, 1:]), (w[:-1], w[1:]), (w[:, :-16], w[:, 16:])):
            assert abs((x * y).mean()) < SIGMAS / np.sqrt(x.size)
    assert len(np.unique(z[0, :, :4])) > 0.999 * 4 * replicas


def xoshiro128_plus(state):
    """Advance generators of shape (4, ...) in place and return their next words."""
    result = state[0] + state[3]
    shifted = state[1] << np.uint32(9)
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = (state[3] << np.uint32(11)) | (state[3] >> np.uint32(21))
    return result


@pytest.mark.parametrize("name", library.instruction_sets())
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_normals_are_the_transform_of_the_streams(dtype, name):
    # Statistics see an error of the transform only from some 1e-3 on; this sees all of them.
    replicas, batch, sites = 512, 32, 32
    ensemble = rbm(
        "ar1", sites, replicas=replicas, batch_size=batch, dtype=dtype,
        weights=np.zeros((replicas, sites, sites)), instruction_set=name, mu_squared=1.0,
    )  # fmt: skip
    streams = ensemble.state()["streams"].reshape(replicas, -1, 4)  # replica, generator, word
    ensemble.advance(1)
    found = ensemble.state()["chains"].reshape(replicas, -1, 2, streams.shape[1])

    state = np.moveaxis(streams, -1, 0).copy()
    for pair in range(found.shape[1]):
        # 30 random bits, rounded to the 24 of float32.
        uniform = (xoshiro128_plus(state) >> 1 | 1).astype(np.float32).astype(float) / 2.0**31
        word = xoshiro128_plus(state)
        radius = np.sqrt(-2 * np.log(uniform)) * np.where(word >> 31, -1, 1)
        angle = np.pi / 2 * ((word & 0x7FFFFF) / 2.0**22 - 1)
        expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        np.testing.assert_allclose(found[:, pair], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("batch", "dtype"),
    # Near B = N float32 loses the smallest values in the subtraction below.
    [
        (5, "float64"),
        (6, "float64"),
        (13, "float64"),
        (40, "float64"),
        (13, "float32"),
        (40, "float32"),
    ],
)
def test_wishart_draws(batch, dtype):
    # For small W and mu = 1 the samples have unit covariance, and one step with a = 1 shows it:
    # W' = W (1 + target - C).
    sites, replicas, calls, scale = 5, 2048, 4, 1e-6
    collected = []
    ensemble = rbm(
        "wishart", sites, replicas=replicas, batch_size=batch, dtype=dtype, mu_squared=1.0,
        learning_rate=1.0, target_covariance=np.eye(sites),
    )  # fmt: skip
    for _ in range(calls):
        small = np.broadcast_to(scale * np.eye(sites), (replicas, sites, sites))
        ensemble.load(ensemble.state() | {"weights": small})
        ensemble.advance(1)
        collected.append(batch * (2 * np.eye(sites) - ensemble.weights / scale))
    covariance = np.concatenate(collected).astype(np.float64)
    factor = np.linalg.cholesky(covariance)
    assert stats.kstest(covariance[:, 4, 4], stats.chi2(batch).cdf).pvalue > 1e-5
    for i in range(sites):
        assert stats.kstest(factor[:, i, i] ** 2, stats.chi2(batch - i).cdf).pvalue > 1e-5, i
        for j in range(i):
            assert stats.kstest(factor[:, i, j], "norm").pvalue > 1e-5


# --- law ------------------------------------------------------------------------------------------


def moments_agree(first, second):
    """Means and covariances of two samples of vectors, 5 sigma, element by element."""
    for transform in (lambda x: x, lambda x: np.einsum("ri,rj->rij", x, x)):
        a, b = (transform(x - first.mean(axis=0)) for x in (first, second))
        error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) < SIGMAS * error + 1e-12).all()


def upper_triangle(weights):
    x = np.swapaxes(weights, 1, 2) @ weights
    return x[:, *np.triu_indices(x.shape[1])]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_law_of_the_rbm_is_that_of_the_reference(sampler):
    sites, replicas, steps, batch, sweeps, rate = 3, 96, 40, 4, 2, 0.1
    rng = torch.Generator().manual_seed(5)
    start = stationary_start(sites, 4096)
    ensemble = rbm(
        sampler, sites, replicas=4096, batch_size=batch, sweeps=sweeps, learning_rate=rate,
        weights=start,
    )  # fmt: skip
    ensemble.advance(steps)
    common = {
        "target": torch.tensor(ring_covariance(sites)),
        "learning_rate": rate,
        "mu_squared": MU_SQUARED,
        "sigma_h": 1.0,
    }

    def normals(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    slow = []
    for _ in range(replicas):
        weights, visible = torch.tensor(start[0]), normals(batch, sites) / MU_SQUARED**0.5
        for _ in range(steps):
            if sampler == "gibbs":
                weights, visible = reference.rbm_gibbs_step(
                    weights,
                    visible,
                    normals(sweeps, batch, sites),
                    normals(sweeps, batch, sites),
                    **common,
                )
            elif sampler == "ar1":
                weights, visible = reference.rbm_ar1_step(
                    weights, visible, normals(batch, sites), sweeps=sweeps, **common
                )
            else:
                chi = torch.stack([normals(batch - i).norm() for i in range(sites)])
                factor = reference.bartlett_factor(normals(3), chi)
                weights = reference.rbm_wishart_step(weights, factor, batch_size=batch, **common)
        slow.append(weights.numpy())
    moments_agree(upper_triangle(ensemble.weights), upper_triangle(np.stack(slow)))


def test_gibbs_and_ar1_have_one_law():
    samples = []
    for sampler in ("gibbs", "ar1"):
        ensemble = rbm(
            sampler, 6, replicas=4096, batch_size=8, learning_rate=0.1, threads=2,
            weights=stationary_start(6, 4096),
        )  # fmt: skip
        ensemble.advance(300)
        samples.append(ensemble.weights)
    moments_agree(*(upper_triangle(w) for w in samples))
    gaps = [np.diff(np.linalg.eigvalsh(np.swapaxes(w, 1, 2) @ w), axis=1) for w in samples]
    for i in range(5):
        assert stats.ks_2samp(gaps[0][:, i], gaps[1][:, i]).pvalue > 1e-5


@pytest.mark.parametrize("batch", [64, 6])
def test_gaps_and_means_follow_linear_noise_theory(batch):
    # Gap of a degenerate pair: sqrt(pi) sigma, sigma^2 = 2 a x / B, the limit of small a/B.
    replicas, rate = 512, 0.001 * batch
    ensemble = rbm(
        "wishart", replicas=replicas, batch_size=batch, learning_rate=rate, threads=2,
        weights=stationary_start(10, replicas),
    )  # fmt: skip
    levels = []
    ensemble.advance(int(100 / rate))
    for _ in range(4):
        ensemble.advance(int(50 / rate))
        w = ensemble.weights
        levels.append(MU_SQUARED - np.linalg.eigvalsh(np.swapaxes(w, 1, 2) @ w)[:, ::-1])
    levels = np.concatenate(levels)
    kappa = np.sort(np.linalg.eigvalsh(np.linalg.inv(ring_covariance(10))))
    assert np.allclose(levels.mean(axis=0)[[0, 9]], kappa[[0, 9]], rtol=0.01)
    for i in (1, 3, 5, 7):
        sigma = np.sqrt(2 * rate * (MU_SQUARED - kappa[i]) / batch)
        gap = levels[:, i + 1] - levels[:, i]
        assert gap.mean() == pytest.approx(np.sqrt(np.pi) * sigma, rel=0.07)
        # Wigner's surmise in the variable s = S / <S>.
        s = gap / gap.mean()
        assert stats.kstest(s[:replicas], lambda x: 1 - np.exp(-np.pi * x**2 / 4)).pvalue > 1e-5


@pytest.mark.parametrize(("rate", "batch"), [(0.1, 16), (0.5, 4), (0.3, 1)])
def test_teacher_student_has_the_exact_second_moments(rate, batch):
    # E[D' D'] is linear in E[D D], D = W - W_t; its fixed point.
    n, eps, replicas = 2, 0.1, 8192
    delta = np.eye(n)
    noise = eps**2 / batch * (
        np.einsum("ij,ab->iajb", delta, delta) + np.einsum("ib,aj->iajb", delta, delta)
    )  # fmt: skip
    moments = np.zeros((n,) * 4)  # [i, a, j, b]
    for _ in range(4000):
        trace = np.einsum("icjc->ij", moments)
        moments = (
            (1 - rate) ** 2 * moments
            + rate**2 / batch * np.einsum("ab,ij->iajb", delta, trace)
            + rate**2 / batch * np.swapaxes(moments, 1, 3)
            + rate**2 * noise
        )
    ensemble = student(
        learning_rate=rate, batch_size=batch, replicas=replicas, threads=2,
        weights=np.broadcast_to(2 * delta, (replicas, n, n)),
    )  # fmt: skip
    ensemble.advance(200)
    d = ensemble.weights - 2 * delta
    products = np.einsum("ria,rjb->riajb", d, d)
    error = products.std(axis=0) / np.sqrt(replicas)
    assert (np.abs(products.mean(axis=0) - moments) < SIGMAS * error).all()
    assert (np.abs(d.mean(axis=0)) < SIGMAS * d.std(axis=0) / np.sqrt(replicas)).all()


def test_more_sites_than_hidden_units_leave_zero_modes():
    ensemble = rbm("ar1", 6, hidden=4, replicas=64, learning_rate=0.1)
    ensemble.advance(500)
    w = ensemble.weights
    assert w.shape == (64, 4, 6)
    values = np.linalg.eigvalsh(np.swapaxes(w, 1, 2) @ w)
    assert np.abs(values[:, :2]).max() < 1e-12
    assert (values[:, 2:] > 0).all()


# --- bit for bit ----------------------------------------------------------------------------------


def ensembles(dtype):
    """Makers of one ensemble of each kind, with an incomplete last block where replicas=41."""
    for sampler in SAMPLERS:
        for batch in (6, 12):
            yield lambda sampler=sampler, batch=batch, **changes: rbm(
                sampler, learning_rate=0.1, batch_size=batch, dtype=dtype, **changes
            )
    yield lambda **changes: rbm("gibbs", 7, hidden=5, dtype=dtype, **changes)
    yield lambda **changes: student(dtype=dtype, **changes)


def same_state(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_threads_shards_and_calls_do_not_show(dtype):
    for make in ensembles(dtype):
        whole = make(replicas=41)
        whole.advance(50)
        for threads in (2, 5):
            other = make(replicas=41, threads=threads)
            for steps in (0, 1, 30, 19):
                other.advance(steps)
            same_state(whole.state(), other.state())
        shards = [
            make(replicas=16),
            make(replicas=20, first_block=1, threads=2),
            make(replicas=16, first_block=2),
        ]
        for shard in shards:
            shard.advance(50)
        together = np.concatenate([shards[0].weights, shards[1].weights[:16], shards[2].weights])
        np.testing.assert_array_equal(whole.weights, together[:41])
        np.testing.assert_array_equal(shards[1].weights[16:], shards[2].weights[:4])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_instruction_sets_agree(dtype):
    for make in ensembles(dtype):
        states = {}
        for name in library.instruction_sets():
            ensemble = make(replicas=41, instruction_set=name)
            ensemble.advance(20)
            states[name] = ensemble.state()
        if {"avx2", "avx512"} <= states.keys():
            same_state(states["avx2"], states["avx512"])
        # The baseline of x86-64 has no fused multiply-add: the same numbers up to rounding.
        for state in states.values():
            tolerance = 1e-5 if dtype == "float64" else 1e-2
            np.testing.assert_allclose(
                state["weights"], states["baseline"]["weights"], atol=tolerance
            )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_resume(dtype):
    for make in ensembles(dtype):
        straight = make(replicas=20)
        straight.advance(30)
        first = make(replicas=20)
        first.advance(11)
        saved = pickle.loads(pickle.dumps(first.state()))
        first.advance(5)  # must not reach into the saved state
        second = make(replicas=20)
        second.advance(3)
        second.load(saved)
        assert second.steps_done == 11
        second.advance(19)
        same_state(straight.state(), second.state())


def test_seeds_and_replicas_differ():
    weights = [rbm("ar1", seed=seed).weights for seed in (1, 2)]
    assert len(np.unique(np.concatenate(weights)[:, 0, 0])) == 64
    first, second = (rbm("ar1", seed=1, weights=np.zeros((32, 10, 10))) for _ in range(2))
    first.advance(1)
    second.advance(1)
    same_state(first.state(), second.state())


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_divergence_is_reported_at_once(sampler, dtype):
    weights = 0.1 * np.random.default_rng(0).standard_normal((48, 10, 10))
    weights[37, 3, 4] = 3.2  # K = mu^2 - W^T W has a negative eigenvalue
    for threads in (1, 3):
        ensemble = rbm(
            sampler, replicas=48, weights=weights, dtype=dtype, first_block=2, threads=threads
        )
        with pytest.raises(DivergedError, match="replica 69 diverged at SGD step 0") as caught:
            ensemble.advance(1000)
        assert (caught.value.replica, caught.value.step) == (69, 0)
        assert "not positive definite" in caught.value.reason
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        for use in (lambda: ensemble.weights, ensemble.state, lambda: ensemble.advance(1)):  # noqa: B023
            with pytest.raises(DivergedError):
                use()


@pytest.mark.parametrize("sites", [5, 10])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_negative_mode_is_enough(sampler, sites):
    # Diagonal K with one negative pivot, in each place: those after it are positive again.
    for place in range(sites):
        diagonal = np.ones(sites)
        diagonal[place] = 3.2
        weights = np.broadcast_to(np.diag(diagonal), (32, sites, sites))
        ensemble = rbm(sampler, sites, weights=weights)
        with pytest.raises(DivergedError, match="replica 0 diverged at SGD step 0"):
            ensemble.advance(1)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_first_failure_does_not_depend_on_threads_or_calls(sampler):
    failures = set()
    for threads, steps in ((1, 400), (2, 400), (3, 7), (1, 1)):
        ensemble = rbm(sampler, replicas=90, learning_rate=1.0, batch_size=4, threads=threads)
        with pytest.raises(DivergedError) as caught:
            for _ in range(400 // steps + 1):
                ensemble.advance(steps)
        failures.add((caught.value.replica, caught.value.step))
    assert len(failures) == 1
    assert 0 < failures.pop()[1] < 400


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_weights_that_are_not_finite(dtype):
    ensemble = student(learning_rate=5.0, dtype=dtype)
    with pytest.raises(DivergedError, match="not finite"):
        ensemble.advance(100_000)
    # NaN in the last step made, and only in one replica.
    ensemble = student(dtype=dtype)
    noise = np.zeros((32, 2, 6))
    noise[21, 1, 5] = np.nan
    with pytest.raises(DivergedError, match="replica 21 diverged at SGD step 2") as caught:
        ensemble.advance(2, noise=noise)
    assert "not finite" in caught.value.reason
    for sampler in SAMPLERS:
        ensemble = rbm(sampler, dtype=dtype)
        noise = np.zeros((32, 2, ensemble.noise_per_step()))
        noise[21, 1, 5] = np.nan
        with pytest.raises(DivergedError, match="replica 21 diverged at SGD step 2") as caught:
            ensemble.advance(2, noise=noise)
        assert "not finite" in caught.value.reason


def test_bad_arguments():
    with pytest.raises(ValueError, match="shape"):
        rbm("gibbs", weights=np.zeros((3, 10, 10)))
    with pytest.raises(ValueError, match="finite"):
        rbm("gibbs", weights=np.full((32, 10, 10), np.nan))
    with pytest.raises(ValueError, match="square"):
        rbm("gibbs", target_covariance=np.zeros((3, 4)))
    with pytest.raises(ValueError, match="symmetric"):
        rbm("gibbs", target_covariance=np.triu(np.ones((3, 3))))
    with pytest.raises(ValueError, match="sampler"):
        rbm("metropolis")
    with pytest.raises(ValueError, match="dtype"):
        rbm("gibbs", dtype=np.int32)
    with pytest.raises(ValueError, match="learning_rate"):
        rbm("gibbs", learning_rate=-1.0)
    with pytest.raises(ValueError, match="threads"):
        rbm("gibbs", threads=0)
    with pytest.raises(ValueError, match="replicas or blocks"):
        rbm("gibbs", replicas=None, blocks=None)
    with pytest.raises(ValueError, match="noise"):
        rbm("gibbs").advance(1, noise=np.zeros((32, 1, 7)))
    with pytest.raises(ValueError, match="instruction set"):
        rbm("gibbs", instruction_set="mmx")
    with pytest.raises(ValueError, match="shape"):
        ensemble = rbm("gibbs")
        ensemble.load(ensemble.state() | {"chains": np.zeros((1, 1, 1))})


def test_arithmetic_rate_counts_what_was_done():
    # v <- 0.999 v + 0.001 tends to 1 in each of ten chains.
    operations, value = library._kernel.multiply_adds(20_000)
    assert value == pytest.approx(10, abs=1e-6)
    lanes = {"avx512": [8], "avx2": [4], "baseline": [1, 2]}[library.instruction_set()]
    assert operations / (20_000 * 10 * 2) in lanes
    assert library.arithmetic_rate(repeats=1) > 0


def test_a_missing_kernel_gives_its_reason(monkeypatch):
    monkeypatch.setattr(library, "_kernel", None)
    monkeypatch.setattr(library, "_import_error", "no such file")
    assert not library.available()
    assert library.why_unavailable()
    with pytest.raises(RuntimeError, match="kernel"):
        rbm("gibbs")

"""Fourth moments of D = W - W_t: how much heavier its tails are than those of a Gaussian."""

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from dysonflow.models.teacher_student import TeacherStudentHyperparameters
from dysonflow.theory.teacher_student.moments import stationary_moments


def fourth_moment_ratio(h: TeacherStudentHyperparameters) -> float:
    """E[S^4] / (2 E[S^2]^2) of the gap S of a pair, 1 if D is Gaussian; for n = 2, fresh inputs.

    Of the symmetric part of D, S^2 = (H_11 - H_22)^2 + 4 H_12^2. The fourth moments of D obey a
    closed linear equation, D' = D (1 - a C) + a A_bar with independent factors, which needs the
    moments of C up to the fourth: sums over the pairings of normal variables. Infinite where the
    fourth moment does not exist.
    """
    n, a, batch = 2, h.learning_rate, h.batch_size
    if h.size != n:
        raise ValueError("size: the fourth moments are worked out for n = 2")
    # X = (D_11, D_12, D_21, D_22): X' = (1 x M) X + noise.
    second = _mean_power(n, a, batch, 2)
    fourth = _mean_power(n, a, batch, 4)
    kick = (a * h.noise_scale) ** 2 / batch
    unit = np.eye(n)
    goe = np.einsum("ij,ab->iajb", unit, unit) + np.einsum("ib,ja->iajb", unit, unit)
    noise = kick * goe
    p, q, r = stationary_moments(h)
    pairs = p * np.einsum("ij,ab->iajb", unit, unit) + q * np.einsum("ib,ja->iajb", unit, unit)
    pairs = pairs + r * np.einsum("ia,jb->iajb", unit, unit)
    carried = np.einsum("acbd,icjd->iajb", second, pairs)
    source = np.zeros((n,) * 8)
    for left, right in (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))):
        axes = [2 * k + part for k in (*left, *right) for part in (0, 1)]
        back = np.argsort(axes)
        for first, other in ((carried, noise), (noise, carried), (noise, noise)):
            source += np.multiply.outer(first, other).transpose(back)
    # The rows of D go along unchanged: one system of size n^4 for the columns.
    columns = source.transpose(1, 3, 5, 7, 0, 2, 4, 6).reshape(n**4, n**4)
    step = fourth.transpose(0, 2, 4, 6, 1, 3, 5, 7).reshape(n**4, n**4)
    if np.abs(np.linalg.eigvals(step)).max() >= 1.0:
        return math.inf
    solved = np.linalg.solve(np.eye(n**4) - step, columns).reshape((n,) * 8)
    moments = solved.transpose(4, 0, 5, 1, 6, 2, 7, 3).reshape((n * n,) * 4)
    form = np.zeros((n * n, n * n))
    difference, sum_off = np.array([1.0, 0.0, 0.0, -1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    form += np.outer(difference, difference) + np.outer(sum_off, sum_off)
    square = float((pairs.reshape(n * n, n * n) * form).sum())
    return float(np.einsum("abcd,ab,cd->", moments, form, form)) / (2.0 * square**2)


def _mean_power(n: int, a: float, batch: int, power: int) -> np.ndarray:
    """E of the tensor power of M = 1 - a C, as [row, column, row, column, ..], two per factor."""
    unit = np.eye(n)
    total = np.zeros((n,) * (2 * power))
    for kicked in range(power + 1):
        for chosen in itertools.combinations(range(power), kicked):
            rest = [k for k in range(power) if k not in chosen]
            axes = [2 * k + part for k in (*chosen, *rest) for part in (0, 1)]
            term = _wishart_moment(n, batch, kicked)
            for _ in rest:
                term = np.multiply.outer(term, unit)
            total += (-a) ** kicked * np.transpose(term, np.argsort(axes))
    return total


@lru_cache
def _wishart_moment(n: int, batch: int, power: int) -> np.ndarray:
    """E[C_ab C_cd ..]: each pairing of the normal variables counts B^(cycles - power)."""
    unit = np.eye(n)
    total = np.zeros((n,) * (2 * power))
    for pairing in _pairings(list(range(2 * power))):
        leader = list(range(power))

        def root(k: int, leader: list[int] = leader) -> int:
            while leader[k] != k:
                k = leader[k]
            return k

        term = np.ones(())
        for one, other in pairing:
            leader[root(one // 2)] = root(other // 2)
            term = np.multiply.outer(term, unit)
        cycles = sum(leader[k] == k for k in range(power))
        order = [index for pair in pairing for index in pair]
        total += float(batch) ** (cycles - power) * np.transpose(term, np.argsort(order))
    return total


def _pairings(items: list[int]) -> Iterator[list[tuple[int, int]]]:
    if not items:
        yield []
        return
    first, *rest = items
    for k, other in enumerate(rest):
        for more in _pairings(rest[:k] + rest[k + 1 :]):
            yield [(first, other), *more]

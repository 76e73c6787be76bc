"""Fourth moments of D = W - W_t: how much heavier its tails are than those of a Gaussian.

The law of D does not change under D -> O D O^T, so its fourth moments are a sum over the pairings
of the eight indices,

    E[D_ia D_jb D_kc D_ld] = sum of m_pi times the Kronecker deltas of the pairing pi,

with one number m_pi for all pairings that an exchange of the four factors turns into each other: 12
of 105. One step D' = D (1 - a C) + a A_bar, with independent factors, is a linear map of these
numbers; each closed loop of deltas counts a factor of the size n, or of B in the moments of C.
"""

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np

from dysonflow.models.teacher_student import TeacherStudentHyperparameters
from dysonflow.theory.tails import traceless_quartic
from dysonflow.theory.teacher_student.moments import stationary_moments

Array = np.ndarray

FACTORS = 4
"""Factors of D, k = 0 .. 3; index k is the row of factor k, index FACTORS + k its column."""
SPLITS = ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2))
"""Ways to make two pairs of four factors."""


def excess_of_tails(h: TeacherStudentHyperparameters, count: int) -> tuple[float, float]:
    """Fourth moments of a block of the symmetric part of D beyond those of a Gaussian matrix.

    Parameters
    ----------
    h : TeacherStudentHyperparameters
        Of a run with fresh inputs.
    count : int
        Number of rows and columns of the block.

    Returns
    -------
    square, quartic : float
        Excess of E[(tr M^2)^2] and of E[tr M^4], M the block less its trace, in units of the
        variance p + q of a diagonal element of a GOE matrix (`stationary_moments`). 0 for a
        Gaussian D, infinite where the fourth moments do not exist.
    """
    p, q, r = stationary_moments(h)
    kick = (h.learning_rate * h.noise_scale) ** 2 / h.batch_size
    n, a, batch = float(h.size), h.learning_rate, float(h.batch_size)
    table = _step_table()
    orbits = len(_orbits().members)
    step = np.zeros((orbits, orbits))
    values = table.weights * (-a) ** table.kicked * n**table.loops * batch**table.cycles
    np.add.at(step, (table.after, table.before), values)
    if np.abs(np.linalg.eigvals(step)).max() >= 1.0:
        return math.inf, math.inf
    carried, noise = np.array([p - kick, q - kick, r]), np.array([kick, kick, 0.0])
    source = _products(carried, noise) + _products(noise, carried) + _products(noise, noise)
    moments = np.linalg.solve(np.eye(orbits) - step, source)
    found = np.einsum("l,lto,o->t", float(count) ** np.arange(5), _trace_table(), moments)
    unit = (p + q) ** 2
    square, quartic = _traceless(found / unit, count)
    freedom = count + count * (count - 1) / 2 - 1
    return square - freedom * (freedom + 2), quartic - traceless_quartic(count)


def fourth_moment_ratio(h: TeacherStudentHyperparameters) -> float:
    """K = E[S^4] / (2 E[S^2]^2) of the gap S of a pair, 1 if D is Gaussian."""
    # tr M^2 = S^2 / 2, and E[(tr M^2)^2] = 8 for a Gaussian.
    return 1.0 + excess_of_tails(h, 2)[0] / 8.0


def _traceless(traces: Array, count: int) -> tuple[float, float]:
    """E[(tr M^2)^2] and E[tr M^4] from the moments of `TRACES`, of the matrix with its trace."""
    n = float(count)
    four, three_one, two_two, two_one_one, ones = traces.tolist()
    square = two_two - 2 * two_one_one / n + ones / n**2
    return square, four - 4 * three_one / n + 6 * two_one_one / n**2 - 3 * ones / n**3


TRACES: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((0, 1, 2, 3),),
    ((0, 1, 2), (3,)),
    ((0, 1), (2, 3)),
    ((0, 1), (2,), (3,)),
    ((0,), (1,), (2,), (3,)),
)
"""tr H^4, tr H^3 tr H, (tr H^2)^2, tr H^2 (tr H)^2, (tr H)^4: the factors in each trace."""


@dataclass(frozen=True)
class _Orbits:
    """Pairings of the eight indices, in orbits under the exchange of factors.

    Attributes
    ----------
    members : list of list of tuple
        Partner of each index, for the pairings of each orbit.
    number : dict
        Pairing to the number of its orbit.
    """

    members: list[list[tuple[int, ...]]]
    number: dict[tuple[int, ...], int]


@dataclass(frozen=True)
class _StepTable:
    """Terms of the linear map of a step, without their numbers a, n and B; shape (terms,) each."""

    after: Array
    before: Array
    weights: Array
    kicked: Array
    loops: Array
    cycles: Array


def _pairings(count: int) -> list[tuple[int, ...]]:
    """All pairings of `count` things, as the partner of each."""
    if not count:
        return [()]
    found = []
    for other in range(1, count):
        rest = [k for k in range(1, count) if k != other]
        for inner in _pairings(count - 2):
            partners = [0] * count
            partners[0], partners[other] = other, 0
            for k, one in enumerate(inner):
                partners[rest[k]] = rest[one]
            found.append(tuple(partners))
    return found


@cache
def _orbits() -> _Orbits:
    members: list[list[tuple[int, ...]]] = []
    number: dict[tuple[int, ...], int] = {}
    for pairing in _pairings(2 * FACTORS):
        if pairing in number:
            continue
        moved = set()
        for order in itertools.permutations(range(FACTORS)):
            place = (*order, *(k + FACTORS for k in order))
            one = [0] * (2 * FACTORS)
            for k, other in enumerate(pairing):
                one[place[k]] = place[other]
            moved.add(tuple(one))
        number |= dict.fromkeys(moved, len(members))
        members.append(sorted(moved))
    return _Orbits(members, number)


@cache
def _kicks() -> list[tuple[tuple[int, ...], int, int]]:
    """Terms of E[(1 - a C)^4]: partners of (old columns, new columns), factors C, powers of B.

    A term takes C in some of the factors. The moment of these is a sum over the pairings of the
    normal variables x, C_ab = sum x_a x_b / B, of which each cycle of factors counts B.
    """
    found = []
    for count in range(FACTORS + 1):
        for chosen in itertools.combinations(range(FACTORS), count):
            ends = [*chosen, *(k + FACTORS for k in chosen)]
            for pairing in _pairings(2 * count):
                partners = [*range(FACTORS, 2 * FACTORS), *range(FACTORS)]
                for k, other in enumerate(pairing):
                    partners[ends[k]] = ends[other]
                found.append((tuple(partners), count, _cycles(pairing) - count))
    return found


def _cycles(pairing: tuple[int, ...]) -> int:
    """Connected components of factors whose two ends k and count + k a pairing joins."""
    count = len(pairing) // 2
    leader = list(range(count))
    for _ in range(count):
        for end, other in enumerate(pairing):
            leader[end % count] = min(leader[end % count], leader[other % count])
    return len(set(leader))


def _composed(old: tuple[int, ...], kick: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Pairing of rows and new columns, and the loops that close among the old columns."""
    found, seen = [], set()
    for start in range(2 * FACTORS):
        # Alternately along the old pairing and along the kick, from one open end to another.
        by_kick = start >= FACTORS
        at = kick[start] if by_kick else old[start]
        while by_kick == (at < FACTORS):
            column = at if by_kick else at - FACTORS
            seen.add(column)
            at = old[column + FACTORS] if by_kick else kick[column]
            by_kick = not by_kick
        found.append(at)
    loops = 0
    for column in range(FACTORS):
        loops += column not in seen
        while column not in seen:
            other = old[column + FACTORS] - FACTORS
            seen |= {column, other}
            column = kick[other]
    return tuple(found), loops


@cache
def _step_table() -> _StepTable:
    orbits = _orbits()
    terms: Counter[tuple[int, ...]] = Counter()
    for before, members in enumerate(orbits.members):
        for kick, kicked, cycles in _kicks():
            after, loops = _composed(members[0], kick)
            terms[orbits.number[after], before, kicked, loops, cycles] += 1
    after, before, kicked, loops, cycles = np.array(list(terms)).T
    size = np.array([len(members) for members in orbits.members])
    weights = np.array(list(terms.values())) * size[before] / size[after]
    return _StepTable(after, before, weights, kicked, loops, cycles)


def _products(first: Array, second: Array) -> Array:
    """Sum over the splits into two pairs of factors of E[DD] E[DD], one number for each orbit.

    Each E[DD] has the amplitudes (p, q, r) of rows with rows, rows with columns, and each row with
    its own column.
    """
    orbits = _orbits()
    total = np.zeros(len(orbits.members))
    for split in SPLITS:
        for kind, one in zip(_KINDS, first, strict=True):
            for other_kind, other in zip(_KINDS, second, strict=True):
                partners = [0] * (2 * FACTORS)
                for pair, joins in ((split[:2], kind), (split[2:], other_kind)):
                    ends = [*pair, *(k + FACTORS for k in pair)]
                    for k, end in enumerate(joins):
                        partners[ends[k]] = ends[end]
                number = orbits.number[tuple(partners)]
                total[number] += one * other / len(orbits.members[number])
    return total


_KINDS = ((1, 0, 3, 2), (3, 2, 1, 0), (2, 3, 0, 1))
"""Partners of (row, row, column, column) of two factors in the terms p, q and r."""


@cache
def _trace_table() -> Array:
    """Number of pairings of an orbit that close so many loops in a trace: [loops, trace, orbit].

    The mean over both ways round of each factor, H = (D + D^T) / 2.
    """
    orbits = _orbits()
    table = np.zeros((FACTORS + 1, len(TRACES), len(orbits.members)))
    for number, trace in enumerate(TRACES):
        joined = []
        for turned in itertools.product((0, FACTORS), repeat=FACTORS):
            partners = np.empty(2 * FACTORS, dtype=int)
            for cycle in trace:
                for k, following in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
                    out, into = k + FACTORS - turned[k], following + turned[following]
                    partners[out], partners[into] = into, out
            joined.append(partners)
        for orbit, members in enumerate(orbits.members):
            old = np.array(members)
            for partners in joined:
                label = np.tile(np.arange(2 * FACTORS), (len(old), 1))
                for _ in range(FACTORS):
                    label = np.minimum(label, np.take_along_axis(label, old, axis=1))
                    label = np.minimum(label, label[:, partners])
                loops = (label == np.arange(2 * FACTORS)).sum(axis=1)
                np.add.at(table, (loops, number, orbit), 1.0 / len(joined))
    return table

r"""Cumulants of random symmetric matrices under polynomial maps, order by order in weak noise.

Some symmetric N x N matrices z^A ("fields") fluctuate with a noise of order T, in a law that does
not change under z_ij -> e_i e_j z_ij with signs e = +-1. Up to order T^2 their cumulants are

    E[z^A_ii]                          m^A_i                                          T, T^2
    Cov(z^A_ij, z^B_kl)                v^AB_ij (d_ik d_jl + d_il d_jk) + w^AB_ik d_ij d_kl   T, T^2
    cum(z^A_ab, z^B_cd, z^C_ef)        sum of t^ABC[u, v, w] over the 8 ways to join the three
                                       edges into a triangle, u the vertex that A and B share, v
                                       that of B and C, w that of C and A                    T^2

and no other (the fourth is of order T^3). A step replaces each field by a sum of words,

    z'^A_ij = sum of  l_i z^B_ic m_c z^C_cj r_j ..  + noise,

whose noise has a covariance of the form sum_n g_n (P_ik P_jl + P_il P_jk), P a sum of words too.
Wick's theorem sends the cumulants before the step to those after it.
"""

from dataclasses import dataclass, field, replace

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Word:
    """The product c_0 z^A c_1 z^B .. of fields and diagonal matrices between them.

    Attributes
    ----------
    fields : tuple of int
        Numbers of the fields.
    factors : tuple of np.ndarray
        Diagonals, one more than fields, shape (N,) each.
    """

    fields: tuple[int, ...]
    factors: tuple[Array, ...]


@dataclass(frozen=True)
class Noise:
    """Noise that a step adds to one field.

    Attributes
    ----------
    output : int
        The field.
    terms : list of (float, np.ndarray, list of Word)
        g, P at z = 0 (its diagonal), and the words of P - P(0), of one or two fields.
    third : np.ndarray
        Amplitude of the third cumulant at z = 0, shape (N, N, N), symmetric.
    """

    output: int
    terms: list[tuple[float, Array, list[Word]]]
    third: Array


@dataclass(frozen=True)
class Step:
    """A polynomial map of the fields: for each field its words, a symmetric matrix in sum."""

    words: list[list[Word]]
    noise: Noise | None = None

    def linear(self) -> Array:
        """Coefficients L[A, B, i, j] of the words of one field."""
        size = len(self.words[0][0].factors[0])
        total = np.zeros((len(self.words), len(self.words), size, size))
        for out, words in enumerate(self.words):
            for word in words:
                if len(word.fields) == 1:
                    total[out, word.fields[0]] += np.outer(*word.factors)
        return total


@dataclass
class Cumulants:
    """Cumulants of all fields, orders apart.

    Attributes
    ----------
    mean, mean_next : np.ndarray
        m^A_i of order T and T^2, shape (F, N).
    pair, pair_next : np.ndarray
        v^AB_ij of order T and T^2, shape (F, F, N, N).
    cross : np.ndarray
        w^AB_ik, of order T^2, shape (F, F, N, N).
    third : np.ndarray
        t^ABC[u, v, w], shape (F, F, F, N, N, N).
    """

    mean: Array
    mean_next: Array
    pair: Array
    pair_next: Array
    cross: Array
    third: Array
    ones: Array = field(init=False)

    def __post_init__(self) -> None:
        self.ones = 1.0 + np.eye(self.pair.shape[-1])

    @classmethod
    def zero(cls, fields: int, size: int) -> "Cumulants":
        """All cumulants zero."""
        single, double = np.zeros((2, fields, size)), np.zeros((3, fields, fields, size, size))
        triple = np.zeros((fields, fields, fields, size, size, size))
        return cls(single[0], single[1], double[0], double[1], double[2], triple)


def _loop(before: Cumulants, a: int, b: int, weight: Array) -> Array:
    """sum_c E[z^A_ic z^B_ci] weight_c to order T."""
    return (before.pair[a, b] * before.ones) @ weight


def advance(step: Step, before: Cumulants) -> Cumulants:
    """Cumulants after a step."""
    linear = step.linear()
    fields = len(step.words)
    # Cov(z^A, z'^B) to order T.
    carried = np.einsum("bcij,acij->abij", linear, before.pair)
    after = Cumulants.zero(fields, before.pair.shape[-1])
    after.pair = np.einsum("acij,cbij->abij", linear, carried)
    _advance_mean(step, before, after, linear)
    _advance_third(step, before, after, linear, carried)
    _advance_pair(step, before, after, linear, carried)
    if step.noise:
        _add_noise(step.noise, before, after, carried)
    return after


def _advance_mean(step: Step, before: Cumulants, after: Cumulants, linear: Array) -> None:
    diagonal = np.einsum("abii->abi", linear)
    after.mean = np.einsum("abi,bi->ai", diagonal, before.mean)
    after.mean_next = np.einsum("abi,bi->ai", diagonal, before.mean_next)
    one, v, m = before.ones, before.pair, before.mean
    for out, words in enumerate(step.words):
        for word in words:
            f, c = word.fields, word.factors
            ends = c[0] * c[-1]
            if len(f) == 2:
                a, b = f
                after.mean[out] += ends * _loop(before, a, b, c[1])
                own = np.einsum("ii->i", before.cross[a, b]) + m[a] * m[b]
                more = (before.pair_next[a, b] * one) @ c[1] + c[1] * own
                after.mean_next[out] += ends * more
            elif len(f) == 3:
                a, b, d = f
                t = before.third[a, b, d]
                more = np.einsum("cei,c,e->i", t, c[1], c[2])
                more = more + c[1] * np.einsum("iei,e->i", t, c[2])
                more = more + np.einsum("cci,c->i", t, c[1] * c[2])
                more = more + c[2] * np.einsum("cii,c->i", t, c[1])
                more = more + 4.0 * c[1] * c[2] * np.einsum("iii->i", t)
                more = more + c[1] * m[a] * _loop(before, b, d, c[2])
                more = more + c[2] * m[d] * _loop(before, a, b, c[1])
                more = more + _loop(before, a, d, c[1] * c[2] * m[b])
                after.mean_next[out] += ends * more
            elif len(f) == 4:
                a = f[0]
                assert set(f) == {a}, "words of four are of one field"
                inner = _loop(before, a, a, c[2])
                more = c[2] * _loop(before, a, a, c[1]) * _loop(before, a, a, c[3])
                more = more + (v[a, a] * one) @ (c[1] * c[3] * inner)
                more = more + c[2] * (v[a, a] ** 2 @ (c[1] * c[3]))
                more = more + 3.0 * c[1] * c[2] * c[3] * np.diagonal(v[a, a]) ** 2
                after.mean_next[out] += ends * more


def _advance_third(
    step: Step, before: Cumulants, after: Cumulants, linear: Array, carried: Array
) -> None:
    fields = len(step.words)
    # Edges: A = (w, u), B = (u, v), C = (v, w).
    t = np.einsum("adwu,dbcuvw->abcuvw", linear, before.third)
    t = np.einsum("bduv,adcuvw->abcuvw", linear, t)
    after.third = np.einsum("cdvw,abduvw->abcuvw", linear, t)
    for out, words in enumerate(step.words):
        for word in words:
            if len(word.fields) != 2:
                continue
            (first, second), (left, middle, right) = word.fields, word.factors
            for b in range(fields):
                for c in range(fields):
                    # The word is A: its first field meets C in w, its second meets B in u.
                    meet_c = left[:, None] * carried[first, c] * middle[None, :]  # [w, v]
                    meet_b = carried[second, b] * right[None, :]  # [v, u]
                    bent = np.einsum("wv,vu->uvw", meet_c, meet_b)
                    after.third[out, b, c] += bent
                    # The same triangle, entered at the next edge.
                    after.third[c, out, b] += bent.transpose(2, 0, 1)
                    after.third[b, c, out] += bent.transpose(1, 2, 0)


def _advance_pair(
    step: Step, before: Cumulants, after: Cumulants, linear: Array, carried: Array
) -> None:
    v = before.pair
    half = np.zeros_like(v)
    half_cross = np.zeros_like(v)
    quadratic = [
        (out, word)
        for out, words in enumerate(step.words)
        for word in words
        if len(word.fields) == 2
    ]
    for out, word in quadratic:
        (first, second), (left, middle, right) = word.fields, word.factors
        # Third field carried by the step: edge (v, w).
        t = np.einsum("bdvw,duvw->buvw", linear, before.third[first, second])
        inner = np.einsum("bcji,c->bij", t, middle)
        inner = inner + middle[None, None, :] * np.einsum("bjji->bij", t)
        inner = inner + middle[None, :, None] * np.einsum("biji->bij", t)
        half[out] += np.outer(left, right) * inner
        outer = np.einsum("bikk->bik", t)
        half_cross[out] += 2.0 * (left * right)[:, None] * middle[None, :] * outer
        by_mean = np.outer(left, middle * right * before.mean[second])
        half[out] += by_mean * carried[first]
        by_mean = np.outer(left * middle * before.mean[first], right)
        half[out] += by_mean * carried[second]
    for out, words in enumerate(step.words):
        for word in words:
            if len(word.fields) != 3:
                continue
            a, b, c = word.fields
            left, one_, two, right = word.factors
            ends = np.outer(left, right)
            half[out] += ends * (two * _loop(before, a, b, one_))[:, None] * carried[c]
            half[out] += ends * (one_ * _loop(before, b, c, two))[None, :] * carried[a]
            half[out] += ends * np.outer(two, one_) * v[a, c] * carried[b]
            own = np.einsum("bkk->bk", carried[b])
            weight = (left * right)[:, None] * (one_ * two)[None, :] * v[a, c]
            half_cross[out] += 2.0 * weight * own[:, None, :]
    pair = np.einsum("acij,bdij,cdij->abij", linear, linear, before.pair_next)
    diagonal = np.einsum("abii->abi", linear)
    cross = np.einsum("aci,bdk,cdik->abik", diagonal, diagonal, before.cross)
    pair += half + half.transpose(1, 0, 2, 3)
    cross += half_cross + half_cross.transpose(1, 0, 3, 2)
    for out, word in quadratic:
        (a, b), (l1, m1, r1) = word.fields, word.factors
        for other_out, other in quadratic:
            (c, d), (l2, m2, r2) = other.fields, other.factors
            lefts, middles, rights = l1 * l2, m1 * m2, r1 * r2
            straight = (v[a, c] * middles[None, :]) @ v[b, d]
            straight += v[a, c] * (middles * np.diagonal(v[b, d]))[None, :]
            straight += (middles * np.diagonal(v[a, c]))[:, None] * v[b, d]
            pair[out, other_out] += np.outer(lefts, rights) * straight
            twisted = v[a, c] * v[b, d] + v[a, d] * v[b, c]
            cross[out, other_out] += np.outer(l1 * r1 * m2, m1 * l2 * r2) * twisted
    # The words of a field are a symmetric matrix in sum.
    after.pair_next = 0.5 * (pair + pair.transpose(0, 1, 3, 2))
    after.cross = cross


def _add_noise(noise: Noise, before: Cumulants, after: Cumulants, carried: Array) -> None:
    out, v = noise.output, before.pair
    fields = len(v)
    for sign, value, words in noise.terms:
        response = np.zeros((fields, *v.shape[-2:]))
        shift = np.zeros_like(value)
        for word in words:
            if len(word.fields) == 1:
                response[word.fields[0]] += np.outer(*word.factors)
            else:
                (a, b), (left, middle, right) = word.fields, word.factors
                shift += left * right * _loop(before, a, b, middle)
        shift = shift + np.einsum("aii,ai->i", response, before.mean)
        after.pair[out, out] += sign * np.outer(value, value)
        twice = np.einsum("aij,bij,abij->ij", response, response, v)
        shifted = np.outer(value, shift)
        after.pair_next[out, out] += sign * (shifted + shifted.T + twice)
        after.cross[out, out] += 2.0 * sign * twice
        # Two edges with noise share a vertex; their open ends follow the third.
        follow = sign * np.einsum("dij,daij->aij", response, carried)
        for a in range(fields):
            # A = (w, u) carries, B and C share v.
            bent = value[None, :, None] * follow[a].T[:, None, :]
            after.third[a, out, out] += bent
            after.third[out, a, out] += bent.transpose(2, 0, 1)
            after.third[out, out, a] += bent.transpose(1, 2, 0)
    after.third[out, out, out] += noise.third


def stationary(steps: list[Step]) -> Cumulants:
    """Cumulants that a cycle of steps leaves unchanged, at its end.

    Each order is a linear equation once the lower ones are known: a product of the cycle's linear
    map, entry by entry, one factor for each field in the cumulant.
    """
    size = len(steps[0].words[0][0].factors[0])
    fields = len(steps[0].words)
    cycle = np.broadcast_to(np.eye(fields)[:, :, None, None], (fields, fields, size, size))
    for step in steps:
        cycle = np.einsum("acij,cbij->abij", step.linear(), cycle)
    own = np.einsum("abii->abi", cycle)
    found = Cumulants.zero(fields, size)

    def cycled() -> Cumulants:
        state = found
        for step in steps:
            state = advance(step, state)
        return state

    pairs = np.einsum("acij,bdij->ijabcd", cycle, cycle)
    pairs = pairs.reshape(size, size, fields**2, fields**2)
    after = cycled()
    found = replace(found, pair=_fixed(after.pair, pairs, fields, 2))
    after = cycled()
    triple = np.einsum("adwu,beuv,cfvw->uvwabcdef", cycle, cycle, cycle, optimize=True)
    triple = triple.reshape(size, size, size, fields**3, fields**3)
    single = own.transpose(2, 0, 1)
    found = replace(
        found,
        mean=_fixed(after.mean, single, fields, 1),
        third=_fixed(after.third, triple, fields, 3),
    )
    after = cycled()
    corners = np.einsum("aci,bdk->ikabcd", own, own).reshape(size, size, fields**2, fields**2)
    found = replace(
        found,
        pair_next=_fixed(after.pair_next, pairs, fields, 2),
        cross=_fixed(after.cross, corners, fields, 2),
    )
    after = cycled()
    return replace(found, mean_next=_fixed(after.mean_next, single, fields, 1))


def _fixed(excess: Array, maps: Array, fields: int, rank: int) -> Array:
    """Fixed point z of z' = map z + excess; fields lead in `excess`, sites in `maps`."""
    sites = excess.shape[rank:]
    flat = excess.reshape(fields**rank, *sites)
    flat = np.moveaxis(flat, 0, -1)[..., None]
    solved = np.linalg.solve(np.eye(fields**rank) - maps, flat)[..., 0]
    return np.moveaxis(solved, -1, 0).reshape(excess.shape)

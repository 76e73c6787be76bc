"""Predictions for every block of equal singular values, of the product and of each layer."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from dysonflow.models.mlp import PRODUCT, MLPHyperparameters, teacher_map
from dysonflow.statistics.arrays import FloatArray
from dysonflow.theory.base import Block
from dysonflow.theory.blocks import multiplets
from dysonflow.theory.drawn import Prediction, controls_of, predicted
from dysonflow.theory.mlp import draws
from dysonflow.theory.mlp.flat import imbalance_rate
from dysonflow.theory.mlp.linear import LinearNetwork
from dysonflow.theory.tails import unit_mean_gap

PAIRS, FEWEST, WORK = 30_000, 1_000, 60_000_000
"""Pairs of matrices drawn for a prediction, fewer for large ones: WORK / N^3."""
DENSITY_PAIRS = 60_000
"""The same for a density."""
SEED = 20241228
RANK = 1e-9
"""Singular values of the teacher below this share of the largest are zero."""
LARGEST_STEP, LARGEST_STEP_OF_A_LAYER = 0.5, 0.2
"""Learning rate times the largest curvature up to which the theory is taken at its word."""
LARGEST_NONLINEARITY = 0.02
"""`LinearNetwork.nonlinearity` up to which it is."""
LARGEST_MEMORY = 0.01
"""Share by which the imbalance of the start may still change the width of a level."""
UNLUCKY = 1000.0
"""The start of the slowest replica's slowest mode is so many times smaller than a typical one."""


def network(h: MLPHyperparameters) -> LinearNetwork | None:
    """What the stationary law of a run depends on; None where it has none, and nothing is fitted.

    The layers are where the gradient flow led, or where the noise leads, whichever is nearer at the
    times of the snapshots.
    """
    if not h.fitted:
        return None
    values = np.linalg.svd(teacher_map(h), compute_uv=False)[::-1]
    values = values[values > RANK * values[-1]]
    found = LinearNetwork(
        tuple(values.tolist()),
        inputs=h.widths[0],
        outputs=h.widths[-1],
        layers=len(h.widths) - 1,
        rate=h.learning_rate,
        batch=h.batch_size,
        noise=h.label_noise,
        momentum=h.momentum if h.optimiser == "momentum" else 0.0,
    )
    if found.layers == 1:
        return found
    early, late = _imbalances(h, found)
    if early < late:
        return replace(found, balanced_by="flow")
    times = np.linspace(float(h.burn_in), float(h.steps), h.snapshots)
    return replace(found, imbalance_memory=float(np.exp(-imbalance_rate(found) * times).mean()))


def _imbalances(h: MLPHyperparameters, place: LinearNetwork) -> tuple[float, float]:
    """Distance of Q from that of the flow, and from that of the noise, over the smallest mode.

    What the weights of the start leave, as far as the noise has not yet taken it away; and the way
    from one point to the other, of the size of the largest mode. A square network of two layers has
    but one.
    """
    start = max(
        deviation**2 * math.sqrt(rows + cols)
        for deviation, (rows, cols) in zip(h.initial_deviations(), h.matrices(), strict=True)
    )
    rate = imbalance_rate(place)
    kept = math.exp(-rate * float(h.burn_in))
    smallest, largest = place.values.min(), place.values.max()
    if place.layers == 2 and place.inputs == place.outputs:
        left = float(start * kept / smallest)
        return left, left
    gone = -math.expm1(-rate * float(h.steps))
    return float((start + largest * gone) / smallest), float((start + largest) * kept / smallest)


def layer_number(h: MLPHyperparameters, layer: str) -> int | None:
    """Number of a layer from 1; None for the product, and for the one layer that is the product."""
    if layer == PRODUCT or len(h.widths) == 2:
        return None
    return int(layer[1:])


def columns(h: MLPHyperparameters, layer: str) -> int:
    """Columns of a layer: number of its levels, zeros included."""
    return next(found[2] for found in h.weight_shapes() if found[0] == layer)


def draw(
    place: LinearNetwork, number: int | None, pairs: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, draws.SymmetricLaw]:
    """Levels of the teacher's modes, the Gaussian part, and the law of the latter.

    Parameters
    ----------
    place : LinearNetwork
        The network.
    number : int or None
        As `layer_number`.
    pairs : int
        Pairs of matrices.
    rng : numpy.random.Generator
        All randomness comes from here.

    Returns
    -------
    levels : np.ndarray
        Ascending, shape (2, pairs, r).
    gaussian : np.ndarray
        Shape (pairs, r, r).
    law : SymmetricLaw
        Of the product, or of W W^T of the layer.
    """
    if number is None:
        return *draws.draw_product(place, pairs, rng), draws.product_law(place)
    if place.layers > 2:
        drawn = draws.draw_deep_layer(place, number, pairs, rng)
        return *drawn, draws.deep_layer_law(place, number)
    law = draws.layer_law(place, number)
    return *draws.draw_layer(place, number, pairs, rng), law


def sample_levels(
    h: MLPHyperparameters, layer: str, pairs: int, rng: np.random.Generator
) -> FloatArray:
    """Levels of the teacher's modes, ascending, shape (2 pairs, r)."""
    place = network(h)
    assert place is not None, "asked of a run without a law"
    levels, _, _ = draw(place, layer_number(h, layer), pairs, rng)
    return levels.reshape(-1, levels.shape[-1])


def _entropy(place: LinearNetwork, number: int | None) -> list[int]:
    physical = [*place.singular_values, place.inputs, place.outputs, place.layers, place.rate]
    physical += [place.batch, place.noise, place.momentum, number or 0]
    return np.array(physical, dtype=float).view(np.uint32).tolist()


def generator(place: LinearNetwork, number: int | None) -> np.random.Generator:
    """Random numbers of a prediction: the same physics always has the same."""
    return np.random.default_rng([SEED, *_entropy(place, number)])


def pairs_for(place: LinearNetwork, most: int) -> int:
    """Pairs of matrices for a prediction, at most."""
    size = max(place.inputs, place.outputs)
    return max(min(most, WORK // size**3), FEWEST) // 2


@lru_cache
def _predictions(
    place: LinearNetwork, number: int | None, positions: tuple[tuple[int, int], ...]
) -> list[Prediction]:
    """One for each block of the teacher's modes."""
    levels, gaussian, law = draw(place, number, pairs_for(place, PAIRS), generator(place, number))
    is_deep, found = number is not None and place.layers > 2, []
    for first, count in positions:
        own = slice(first, first + count)
        controls = controls_of(law.mean, gaussian, law.squares, first, count)
        if is_deep:
            # Equal levels of modes that are not equal: not a GOE, whose controls are known.
            controls = controls[:, :1]
        found.append(predicted(levels[..., own], controls, ""))
    return found


def has_law(h: MLPHyperparameters, layer: str) -> bool:
    """Whether the stationary law of a layer is known: the product's always is.

    In networks of more than two layers, weights among hidden units that no mode passes through stay
    where they began, and their singular values lie anywhere among the others.
    """
    if layer_number(h, layer) is None or len(h.widths) == 3:
        return True
    place = network(h)
    return place is not None and set(h.widths[1:-1]) == {len(place.singular_values)}


def block_formulas(h: MLPHyperparameters, layer: str) -> list[Block]:
    """Every block on its own, ascending, to leading order in a/B.

    About the singular values of the teacher, or of the layer where the trace of the Hessian is
    least, with the widths sigma^2 = t h of the product, h the curvature of the block, and sigma^2 =
    t / (alpha (alpha + beta)) and t / (beta (alpha + beta)) of the two layers of a network. Layers
    of deeper ones have those of `draws.deep_layer_law`.
    `finite_step_variable` contains the finite step, the noise of the batches' inputs and, for a
    layer, that of the imbalance.
    """
    place = network(h)
    if place is None:
        return []
    number = layer_number(h, layer)
    modes, zeros = len(place.singular_values), columns(h, layer) - len(place.singular_values)
    ratio = h.learning_rate / h.batch_size
    found: list[Block] = []
    if zeros:
        found.append(_not_fitted(0, zeros, 0.0, ratio, "not learnt: the teacher has no such mode"))
    values = place.values if number is None else place.layer_values[number - 1]
    if not has_law(h, layer):
        why = f"more hidden units than the teacher's {modes} modes: some weights have no law"
        places = multiplets(values)
        return found + [
            _not_fitted(zeros + first, count, float(values[first]), ratio, why)
            for first, count in places
        ]
    flag = _unstable(place)
    if flag:
        return [*found, _not_fitted(zeros, modes, float(values[0]), ratio, flag)]
    widths, finite = _widths(place, number)
    for first, count in multiplets(values):
        sigma = float(widths[first])
        found.append(
            Block(
                first=zeros + first,
                multiplicity=count,
                centre=float(values[first]),
                sigma=float(finite[first]),
                mean_gap=float(finite[first]) * unit_mean_gap(count),
                centre_block=float(values[first]),
                sigma_block=sigma,
                mean_gap_block=sigma * unit_mean_gap(count),
                variable=sigma,
                finite_step_variable=float(finite[first]),
                stochasticity=ratio,
                dyson_index=1.0 if count > 1 else math.nan,
            )
        )
    return found


def _widths(place: LinearNetwork, number: int | None) -> tuple[FloatArray, FloatArray]:
    """Width of each level on its own, to leading order and for a finite step, shape (r,)."""
    modes = len(place.singular_values)
    curvature = np.diagonal(place.curvature)[:modes]
    if number is None:
        finite = np.sqrt(np.diagonal(place.variance)[:modes])
        return np.sqrt(place.temperature * curvature), finite
    values = place.layer_values[number - 1]
    if place.layers > 2:
        squares = draws.deep_layer_law(place, number).squares
        widths = np.empty(modes)
        for first, count in multiplets(values):
            own = slice(first, first + count)
            widths[own] = math.sqrt(squares[own, own].sum() / (count * (count + 1) / 2))
        return widths, widths
    share = place.split[number - 1]
    leading = math.sqrt(place.temperature / (share * sum(place.split)))
    squares = np.diagonal(draws.layer_law(place, number).squares)
    return np.full(modes, leading), np.sqrt(squares) / (2.0 * values)


def _not_fitted(first: int, count: int, centre: float, ratio: float, why: str) -> Block:
    nothing = (math.nan, math.nan)
    return Block(first, count, centre, *nothing, centre, *nothing, *nothing, ratio, flag=why)


def _unstable(place: LinearNetwork) -> str:
    """Why there is no stationary state; empty where there is one."""
    try:
        place.variance  # noqa: B018
    except ValueError as error:
        return f"not stationary: {error}; lower learning_rate or raise batch_size"
    return ""


def blocks(h: MLPHyperparameters, layer: str) -> list[Block]:
    """Prediction for every block of equal singular values, ascending; zeros first, flagged.

    From matrices that are drawn: repulsion between blocks, bending of the singular values by the
    antisymmetric part, the mean shift by the noise, its skewness, the finite step. Not contained
    are changes of the variances of relative order t / s.
    """
    place = network(h)
    found = block_formulas(h, layer)
    if place is None:
        return found
    number = layer_number(h, layer)
    modes = [block for block in found if not block.flag]
    zeros = columns(h, layer) - len(place.singular_values)
    positions = tuple((block.first - zeros, block.multiplicity) for block in modes)
    full = iter(_predictions(place, number, positions) if positions else [])
    beyond = _beyond(h, place, number) if positions else ""
    return [
        block if block.flag else replace(block, **vars(next(full)) | {"beyond": beyond})
        for block in found
    ]


def _beyond(h: MLPHyperparameters, place: LinearNetwork, number: int | None) -> str:
    """Why the theory is not to be taken at its word; empty where it is."""
    step = place.speed * float(place.curvature.max())
    largest = LARGEST_STEP if number is None else LARGEST_STEP_OF_A_LAYER
    if step > largest:
        return f"learning rate times curvature is {step:.2g}, more than {largest:g}"
    if place.nonlinearity > LARGEST_NONLINEARITY:
        return (
            f"the noise moves the weights by {place.nonlinearity:.2g} of their size, more than "
            f"{LARGEST_NONLINEARITY:g}: lower learning_rate or raise batch_size"
        )
    start = _start(h)
    if not start and place.layers > 1:
        return "initial_width = 0: a network without weights learns nothing; raise it"
    time = place.learning_time(start / UNLUCKY)
    if float(h.burn_in) < time:
        return f"burn_in = {h.burn_in}: it may take {time:.0f} SGD steps until all is learnt"
    if place.layers == 1:
        return ""
    reasons = []
    effect = _effect_of_the_start(h, place, number)
    if effect > LARGEST_MEMORY:
        rate = imbalance_rate(place)
        reasons.append(
            "the layers are not balanced: what is left of the start changes a width by a share of "
            f"{effect:.2g}, more than {LARGEST_MEMORY:g}; the noise takes it away within "
            f"1 / {rate:.2g} SGD steps"
        )
    if number is not None and place.layers > 2:
        reasons.append("to leading order only, without the mean shift of a layer by the noise")
    return "; ".join(reasons)


def _start(h: MLPHyperparameters) -> float:
    """Size of a singular value of the product at the start."""
    sizes = zip(h.initial_deviations(), h.matrices(), strict=True)
    return math.prod(deviation * math.sqrt(rows) for deviation, (rows, _) in sizes)


def _effect_of_the_start(h: MLPHyperparameters, place: LinearNetwork, number: int | None) -> float:
    """Share by which what is left of the start changes a width, or a fifth of the moves in widths.

    An estimate of its size.
    """
    left = min(_imbalances(h, place))
    if number is None:
        # Two layers: the curvature is sqrt(Q^2 + 4 s^2) in place of 2 s.
        return left**2 / 16.0 if place.layers == 2 else left / 2.0
    width = math.sqrt(2.0 * place.temperature / place.values.min())
    # While it learns, the product itself is in G: about a D^2 w^2 / B for 1 / (a s) steps, times
    # the logarithm by which the modes grow.
    largest = float(place.values.max())
    growth = max(math.log(largest / _start(h)), 1.0)
    learnt = place.speed * largest * growth * len(place.values) / (2.0 * place.batch)
    learnt *= math.exp(-imbalance_rate(place) * float(h.burn_in))
    moved = learnt / (2.0 * math.sqrt(2.0 * place.temperature * largest)) / 5.0
    if place.inputs == place.outputs:
        # Q / 2 of either sign beside the fluctuations of w^2.
        return max((left / (2.0 * width)) ** 2 / 2.0, moved)
    return max(left / (2.0 * width), moved)


def expected_levels(h: MLPHyperparameters, layer: str, edges: np.ndarray) -> np.ndarray:
    """Mean number of levels of the teacher's modes in each bin, shape (bins,); zeros left out."""
    place = network(h)
    if place is None or not any(not block.flag for block in block_formulas(h, layer)):
        return np.zeros(len(edges) - 1)
    number = layer_number(h, layer)
    pairs = pairs_for(place, DENSITY_PAIRS)
    drawn = sample_levels(h, layer, pairs, generator(place, number))
    return np.histogram(drawn, edges)[0] / len(drawn)

"""The statements of the paper, one section for each system."""

import math
from collections.abc import Callable, Iterator, Mapping

import pandas as pd

from dysonflow.analysis import laws as known
from dysonflow.analysis.fits import within_theory
from dysonflow.analysis.laws import AGREES
from dysonflow.models.teacher_student import TeacherStudentHyperparameters
from dysonflow.report.reproduction.checks import (
    Check,
    estimate,
    law,
    many_tests,
    mean_gap_over_theory,
    mean_over_theory,
    squares,
    with_p_value,
)
from dysonflow.report.reproduction.study import StudyTables
from dysonflow.theory.teacher_student.predictions import over_training_sets

RELEASED_PROTOCOL = {"data": "shared", "training_batches": 500, "steps": 5000, "snapshots": 1}
"""Ten epochs of 500 batches drawn once for all seeds, and the weights at the end."""
TRAINING_SETS = 60


def _surmise(study: StudyTables) -> list[Check | None]:
    pairs = study.pairs
    found = [
        many_tests(
            "Rescaled gaps of every pair and run follow one Wigner surmise",
            pairs["surmise_p_value"],
            _seen(within_theory(pairs)),
        ),
        many_tests(
            "... each the law that theory gives it",
            within_theory(pairs)["gap_law_p_value"],
            "no rejection",
        ),
        law("`<S> = sqrt(pi) sigma` (slope over all points)", study.laws, known.GAP_OVER_SIGMA),
        mean_over_theory("`<S> / (sqrt(pi) sigma)`, mean over pairs and runs", pairs, "gap_ratio"),
        mean_over_theory("Dyson index of pairs, mean over pairs and runs", pairs, "dyson_index"),
        squares(
            "Dyson index of every pair and run about the theory",
            pairs["pull_dyson_index"],
            "scatter of the errors",
        ),
    ]
    if pairs["angle_p_value"].notna().any():
        text = "Eigenvectors of a pair turn freely in their plane"
        found.append(many_tests(text, pairs["angle_p_value"], "no rejection"))
    return found


def _seen(pairs: pd.DataFrame) -> str:
    """What departures from the surmise theory expects, and from how many gaps on they are seen."""
    excess = pairs["gap_excess_theory"].abs().max()
    if not excess > 0:
        return "no rejection"
    needed = (AGREES / excess) ** 2
    return (
        f"no rejection; fourth moment up to {excess:.2g} off, {AGREES:g} errors from "
        f"{needed:.2g} gaps on"
    )


def _gaussian_rbm(study: StudyTables) -> Iterator[tuple[str, list[Check | None]]]:
    fits, pairs, laws = study.fits, study.pairs, study.laws
    inner = within_theory(pairs)
    reach = f"a/B <= {inner['stochasticity'].max():g}"
    yield (
        "Gaussian RBM: the scaling rule",
        [
            law("`<S>` against sqrt(a/B kappa^2 Omega), all points", laws, known.MEAN_GAP),
            law("... the points of weakest noise", laws, known.MEAN_GAP_SMALL_NOISE),
            law("... extrapolated to zero noise", laws, known.MEAN_GAP_ZERO_NOISE),
            law("`sqrt(pi) sigma` against the same, all points", laws, known.SIGMA),
            law("... the points of weakest noise", laws, known.SIGMA_SMALL_NOISE),
            law("... extrapolated to zero noise", laws, known.SIGMA_ZERO_NOISE),
            law("`sigma` ~ a^p at fixed B: p", laws, known.SIGMA_IN_LEARNING_RATE),
            law("`sigma` ~ B^-p at fixed a: p", laws, known.SIGMA_IN_BATCH_SIZE),
            mean_gap_over_theory(f"`<S>` over the theory of the whole matrix, {reach}", inner),
            squares(
                f"`<S>` of every pair and run about that theory, {reach}",
                inner["pull_gap"],
                "scatter of the errors",
            ),
            mean_gap_over_theory(
                "`<S>` over that theory beyond its end",
                pairs.drop(inner.index),
            ),
        ],
    )
    yield ("Gaussian RBM: the Wigner surmise", _surmise(study))
    lowest = fits[fits["block"] == 0].sort_values("stochasticity")
    strong = within_theory(lowest).iloc[-1]
    bare = (fits["centre"] - fits["centre_block_formula"]) / fits["centre_error"]
    place = f"a = {strong['learning_rate']:g}, B = {strong['batch_size']:g}"
    error = math.hypot(strong["centre_error"], strong["centre_theory_error"])
    yield (
        "Gaussian RBM: repulsion between modes",
        [
            squares("Centres stay at kappa (no repulsion)", bare, "scatter of the errors"),
            squares(
                f"Centres shift as the theory of the whole matrix says, {reach}",
                fits["pull_centre"],
                "scatter of the errors",
            ),
            estimate(
                f"Lowest mode (kappa = {strong['centre_block_formula']:.4g}) at {place}",
                strong["centre"],
                error,
                strong["centre_theory"],
            ),
        ],
    )


def _weak_noise(study: StudyTables) -> Iterator[tuple[str, list[Check | None]]]:
    laws = study.laws
    yield (
        "Gaussian RBM: weak noise, independent samples",
        [
            law(
                "`<S>` against sqrt(a/B kappa^2 Omega), weakest noise",
                laws,
                known.MEAN_GAP_SMALL_NOISE,
            ),
            law("`sqrt(pi) sigma` against the same", laws, known.SIGMA_SMALL_NOISE),
            law("`<S>` extrapolated to zero noise", laws, known.MEAN_GAP_ZERO_NOISE),
            law("`sqrt(pi) sigma` extrapolated to zero noise", laws, known.SIGMA_ZERO_NOISE),
            mean_gap_over_theory("`<S>` over the theory of the whole matrix", study.pairs),
            *_surmise(study),
        ],
    )


def _teacher_student(study: StudyTables) -> Iterator[tuple[str, list[Check | None]]]:
    pairs, laws = study.pairs, study.laws
    yield (
        "Teacher-student model: the scaling rule",
        [
            law("`<S>` against sqrt(a A/B), all points", laws, known.MEAN_GAP),
            law(
                "... with the finite-step factor in the variable", laws, known.MEAN_GAP_FINITE_STEP
            ),
            law("... extrapolated to zero noise", laws, known.MEAN_GAP_ZERO_NOISE),
            law("`sqrt(pi) sigma` against sqrt(a A/B), all points", laws, known.SIGMA),
            law("... with the finite-step factor in the variable", laws, known.SIGMA_FINITE_STEP),
            mean_gap_over_theory("`<S>` over the exact theory", pairs),
            squares(
                "`<S>` of every run about the exact theory",
                pairs["pull_gap"],
                "scatter of the errors",
            ),
        ],
    )
    yield ("Teacher-student model: the Wigner surmise", _surmise(study))


def _semicircle(study: StudyTables) -> Iterator[tuple[str, list[Check | None]]]:
    checks: list[Check | None] = []
    for _, row in study.fits.sort_values("multiplicity").iterrows():
        n = row["multiplicity"]
        checks += [
            with_p_value(
                f"Density of n = {n} equal levels",
                f"p = {row['density_p_value']:.2g}",
                "exact law of n levels",
                row["density_p_value"],
            ),
            estimate(
                f"Radius of the semicircle over sigma sqrt(2n), n = {n}",
                row["sigma"] / row["sigma_theory"],
                row["sigma_error"] / row["sigma_theory"],
                1.0,
            ),
            estimate(
                f"Dyson index, n = {n}",
                row["dyson_index"],
                row["dyson_index_error"],
                row["dyson_index_theory"],
            ),
        ]
    yield ("Many equal levels: towards the semicircle", checks)


def _shared_data(study: StudyTables) -> Iterator[tuple[str, list[Check | None]]]:
    pairs = study.pairs
    ratio = pairs["mean_gap"] / pairs["mean_gap_block_formula"]
    given = pairs["mean_gap_theory"] / pairs["mean_gap_block_formula"]
    fresh = math.sqrt(math.pi) * pairs["finite_step_variable"]
    about_fresh = (pairs["mean_gap"] - fresh) / pairs["mean_gap_error"]
    span = Check(
        f"`<S>` over the small-step formula, {len(pairs)} runs",
        f"{ratio.min():.2f} to {ratio.max():.2f}",
        f"{given.min():.2f} to {given.max():.2f} given the inputs",
        math.nan,
        "",
    )
    yield (
        "Teacher-student model: one training set for all replicas",
        [
            span,
            squares(
                "`<S>` of every run about the theory for fresh inputs", about_fresh, "no scatter"
            ),
            squares(
                "`<S>` of every run about the theory given its inputs",
                pairs["pull_gap"],
                "scatter of the errors",
            ),
            *_surmise(study),
        ],
    )


def _released(study: StudyTables) -> Iterator[tuple[str, list[Check | None]]]:
    checks: list[Check | None] = []
    pairs = study.pairs.sort_values(["learning_rate", "batch_size"])
    for _, row in pairs.iterrows():
        place = f"`<S>` at a = {row['learning_rate']:g}, B = {row['batch_size']:g}"
        measured = (row["mean_gap"], row["mean_gap_error"])
        given = {name: row[name] for name in ("learning_rate", "batch_size", "noise_scale")}
        run = TeacherStudentHyperparameters.from_config(given | RELEASED_PROTOCOL)
        drawn = over_training_sets(run, TRAINING_SETS)
        checks += [
            estimate(f"{place}: small-step formula", *measured, row["mean_gap_block_formula"]),
            estimate(f"{place}: theory for fresh inputs", *measured, row["mean_gap_theory"]),
            estimate(
                f"{place}: theory over {TRAINING_SETS} training sets, the error their spread",
                *measured,
                *drawn,
            ),
        ]
    yield ("Weights released by the authors", [*checks, *_surmise(study)])


def _linear_network(study: StudyTables) -> Iterator[tuple[str, list[Check | None]]]:
    product = study.of_layer("product")
    laws, pairs, fits = product.laws, product.pairs, within_theory(product.fits)
    yield (
        "Linear network with one hidden layer: the product of its layers",
        [
            law("`<S>` against sqrt(a epsilon^2 s / B), all points", laws, known.MEAN_GAP),
            law("... extrapolated to zero noise", laws, known.MEAN_GAP_ZERO_NOISE),
            law("`sqrt(pi) sigma` against the same", laws, known.SIGMA),
            law("... extrapolated to zero noise", laws, known.SIGMA_ZERO_NOISE),
            mean_gap_over_theory("`<S>` over the theory of the product", within_theory(pairs)),
            squares(
                "Centres of all blocks and runs about that theory",
                fits["pull_centre"],
                "scatter of the errors",
            ),
            *_surmise(product),
        ],
    )
    for layer in ("W1", "W2"):
        own = study.of_layer(layer)
        inner = within_theory(own.pairs)
        yield (
            f"Linear network with one hidden layer: {layer}",
            [
                mean_gap_over_theory("`<S>` over the theory of the layer", inner),
                squares(
                    "Centres of all blocks and runs about that theory",
                    within_theory(own.fits)["pull_centre"],
                    "scatter of the errors",
                ),
                *_surmise(own),
            ],
        )


SECTIONS: Mapping[str, Callable[[StudyTables], Iterator[tuple[str, list[Check | None]]]]] = {
    "gaussian_rbm": _gaussian_rbm,
    "gaussian_rbm_weak_noise": _weak_noise,
    "teacher_student": _teacher_student,
    "shared_data": _shared_data,
    "semicircle": _semicircle,
    "released": _released,
    "linear_network": _linear_network,
}

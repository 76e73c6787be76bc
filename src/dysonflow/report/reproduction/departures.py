"""Where the paper's protocol leaves its own small-step theory, and by how much."""

from collections.abc import Mapping

import numpy as np

from dysonflow.analysis.fits import within_theory
from dysonflow.report.reproduction.checks import Check, estimate
from dysonflow.report.reproduction.study import StudyTables
from dysonflow.statistics.lines import weighted_mean


def departures(studies: Mapping[str, StudyTables]) -> list[Check]:
    """One check for each departure that the given studies can show."""
    found = []
    if "teacher_student" in studies:
        pairs = studies["teacher_student"].pairs.sort_values(["learning_rate", "batch_size"])
        ends = pairs[
            (pairs["learning_rate"] == pairs["learning_rate"].max())
            | (pairs["batch_size"] == pairs["batch_size"].min())
        ]
        for _, row in ends.iterrows():
            small = row["mean_gap_block_formula"]
            found.append(
                estimate(
                    f"Finite step, teacher-student, a = {row['learning_rate']:g}, B = "
                    f"{row['batch_size']:g}: `<S>` over the small-step formula",
                    row["mean_gap"] / small,
                    row["mean_gap_error"] / small,
                    row["mean_gap_theory"] / small,
                )
            )
    if "gaussian_rbm" in studies:
        found += _strong_noise(studies["gaussian_rbm"])
    if {"gaussian_rbm", "gaussian_rbm_weak_noise"} <= set(studies):
        found += _persistent_chains(studies["gaussian_rbm"], studies["gaussian_rbm_weak_noise"])
    return found


def _strong_noise(study: StudyTables) -> list[Check]:
    """Mean gaps over the block formula at the strongest noise within the range of the theory."""
    pairs = within_theory(study.pairs)
    rows = pairs[pairs["stochasticity"] == pairs["stochasticity"].max()]
    found = []
    for _, row in rows.sort_values("centre_block_formula").iterrows():
        small = row["mean_gap_block_formula"]
        found.append(
            estimate(
                f"Other modes near by, RBM, a/B = {row['stochasticity']:g}, kappa = "
                f"{row['centre_block_formula']:.4g}: `<S>` over the block formula",
                row["mean_gap"] / small,
                row["mean_gap_error"] / small,
                row["mean_gap_theory"] / small,
            )
        )
    return found


def _persistent_chains(chains: StudyTables, independent: StudyTables) -> list[Check]:
    """Widths with persistent chains over those with independent samples, at the same points."""
    keys = ["learning_rate", "batch_size", "block"]
    both = chains.fits.merge(independent.fits, on=keys, suffixes=("", "_independent"))
    both = both[both["sigma"].notna() & both["sigma_independent"].notna()]
    if both.empty:
        return []
    ratio = both["sigma"] / both["sigma_independent"]
    error = ratio * np.hypot(
        both["sigma_error"] / both["sigma"],
        both["sigma_error_independent"] / both["sigma_independent"],
    )
    theory = both["sigma_theory"] / both["sigma_theory_independent"]
    weight = 1.0 / (1.0 / both["samples"] + 1.0 / both["samples_independent"])
    points = ", ".join(
        f"a = {a:g}, B = {b:g}"
        for a, b in both[["learning_rate", "batch_size"]].drop_duplicates().to_numpy()
    )
    value = weighted_mean(ratio, error, weight)
    expected, _ = weighted_mean(theory, 0.0 * error, weight)
    return [
        estimate(
            f"Persistent chains, RBM, {points}: sigma over that of independent samples, mean of "
            f"{len(both)} blocks",
            *value,
            expected,
        )
    ]

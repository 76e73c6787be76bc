"""Tables over all runs: pulls, every point, the cost."""

import math
from collections.abc import Mapping

import pandas as pd

from dysonflow.analysis.fits import QUANTITIES
from dysonflow.report.quoting import quote
from dysonflow.report.reproduction.study import PhaseTables, StudyTables


def pull_table(studies: Mapping[str, StudyTables]) -> list[list[str]]:
    """Distribution of (estimate - theory) / error over all runs and blocks."""
    # Takes a second to import, which nothing else of the package needs.
    from scipy import stats

    rows = []
    for study in studies.values():
        for column, name in QUANTITIES.items():
            pulls = study.fits[f"pull_{column}"].dropna()
            if len(pulls) < 2:
                continue
            error = 1.0 / math.sqrt(len(pulls))
            p_value = stats.kstest(pulls, "norm").pvalue
            rows.append(
                [
                    study.name,
                    name.replace("_", " "),
                    str(len(pulls)),
                    f"{pulls.mean():+.2f} ± {error:.2f}",
                    f"{pulls.var(ddof=1):.2f} ± {math.sqrt(2.0) * error:.2f}",
                    f"{pulls.abs().max():.1f}",
                    f"{p_value:.2g}",
                ]
            )
    return rows


def point_table(study: StudyTables) -> list[list[str]]:
    """Mean gap of every pair and run over the small-step formula, with what theory says."""
    rows = []
    for _, row in study.pairs.sort_values(["stochasticity", "centre_block_formula"]).iterrows():
        small = row["mean_gap_block_formula"]
        noise = f"{row['noise_scale']:g}" if pd.notna(row.get("noise_scale")) else ""
        rows.append(
            [
                f"{row['learning_rate']:g}",
                f"{row['batch_size']:g}",
                noise,
                f"{row['centre_block_formula']:.4g}",
                quote(row["mean_gap"] / small, row["mean_gap_error"] / small),
                f"{row['mean_gap_theory'] / small:.4f}",
                f"{row['pull_gap']:+.1f}" if pd.notna(row["pull_gap"]) else "",
                f"{row['surmise_p_value']:.2g}",
            ]
        )
    return rows


def cost_table(studies: Mapping[str, StudyTables | PhaseTables]) -> list[list[str]]:
    """Core-seconds of every study, from the files themselves."""
    rows = []
    for study in studies.values():
        cost = study.cost
        steps = cost["replica_steps"].sum()
        rows.append(
            [
                study.name,
                str(len(cost)),
                f"{steps:.2g}" if steps > 0 else "",
                f"{cost['training'].sum():.0f}",
                f"{cost['analysis'].sum():.0f}",
            ]
        )
    return rows

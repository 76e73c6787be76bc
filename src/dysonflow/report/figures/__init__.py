"""Figures of a study: one file each, tables in, a matplotlib figure and its numbers out.

A figure's file defines `draw(data: StudyData, **options) -> Drawing`. The dictionary `FIGURES` says
which file draws a figure and what it reads; nothing here imports matplotlib, so that the workflow
can be planned without it. No figure imports the dictionary: one more figure draws no other again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Kind:
    """How a figure is made.

    Attributes
    ----------
    module : str
        File that draws it.
    inputs : tuple of str
        What it reads of its study: `spectra`, `fits`, `weights`, `increments`, `bulk`, `scaling`,
        `linear_scaling`, `gradient_noise`.
    options : mapping
        Keyword arguments of the file's `draw`; `over` names the hyperparameter whose values the
        figure compares.
    needs_spectrum_laws : bool
        Whether it needs a theory with laws of all levels together.
    shows_all_layers : bool
        Whether one figure shows all layers of a study; else there is one for each.
    model : str, optional
        The only model whose studies it can show.
    """

    module: str
    inputs: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    needs_spectrum_laws: bool = False
    shows_all_layers: bool = False
    model: str | None = None


Style = Literal["screen", "column"]
"""Pages that figures can be drawn for: a screen, or one column of a journal, 3.4 inches wide."""

SWEPT = ("learning_rate", "batch_size", "noise_scale")
"""Hyperparameters over which gap distributions can be compared."""
PAIRS = (1, 2, 3, 4)
"""Degenerate pairs that have a figure of their own, counted from the lowest."""

_DEFAULT = {
    "spectrum": Kind("spectrum", ("spectra",)),
    "gap_distribution": Kind("gap_distribution", ("spectra", "fits")),
    "mean_gap": Kind("mean_gap", ("fits", "scaling")),
    "sigma": Kind("sigma", ("fits", "scaling")),
    "gap_against_sigma": Kind("gap_against_sigma", ("fits", "scaling")),
    "block_density": Kind("block_density", ("spectra", "fits")),
    "pulls": Kind("pulls", ("fits",)),
    "p_values": Kind("p_values", ("fits",)),
}

_WITH_SPECTRA = ("spectra", "bulk")
_BULK = {
    "bulk_spectrum": Kind("bulk_spectrum", _WITH_SPECTRA, shows_all_layers=True),
    "bulk_layers": Kind("bulk_layers", _WITH_SPECTRA, shows_all_layers=True),
    "bulk_outliers": Kind("bulk_outliers", ("bulk",), shows_all_layers=True),
    "bulk_spacings": Kind("bulk_spacings", _WITH_SPECTRA, shows_all_layers=True),
    "bulk_tail": Kind("bulk_tail", _WITH_SPECTRA, shows_all_layers=True),
}
MAPPED = (
    *("scale", "excess_kurtosis", "largest_entry", "bulk_chi2", "bulk_p_value", "zeros"),
    *("outliers_above", "outliers_below", "strength", "largest_p_value", "smallest_p_value"),
    *("gap_ratio", "pull_goe", "pull_poisson", "spacing_p_value", "unfolding_error"),
    *("number_variance", "tail_exponent", "truncated_exponent", "truncated_rate"),
    *("participation_inside_left", "participation_inside_right"),
    *("participation_outside_left", "participation_outside_right"),
    *("frobenius_norm", "spectral_norm", "stable_rank", "entropy", "effective_rank"),
)
"""Columns of the bulk that can be shown for all layers and steps at once."""

FIGURES: dict[str, Kind] = {
    **_DEFAULT,
    "evolution": Kind("evolution", ("spectra", "weights")),
    "first_passage": Kind("first_passage", ("spectra", "weights")),
    "escape": Kind("escape", ("spectra",), model="gaussian_rbm"),
    "motion": Kind("motion", ("weights", "increments")),
    "motion_index": Kind("motion_index", ("increments",)),
    "paths": Kind("paths", ("spectra",)),
    "autocorrelation": Kind("autocorrelation", ("spectra",)),
    "spectrum_lambda": Kind("spectrum", ("spectra",), {"over": "learning_rate"}),
    "spectrum_x": Kind("spectrum", ("spectra",), {"over": "learning_rate", "axis": "eigenvalue"}),
    **{
        f"gap_distribution_{over}_pair{pair}": Kind(
            "gap_distribution", ("spectra", "fits"), {"over": over, "pair": pair}
        )
        for over in SWEPT
        for pair in PAIRS
    },
    "centre": Kind("centre", ("fits",)),
    "semicircle": Kind("semicircle", ("spectra", "fits")),
    "shared_data": Kind("shared_data", ("fits",)),
    "gas_against_matrix": Kind("gas_against_matrix", ("spectra",), needs_spectrum_laws=True),
    "loss_curve": Kind("loss_curve", ("weights",), shows_all_layers=True),
    "singular_values": Kind("singular_values", ("spectra",), shows_all_layers=True),
    "outlier_times": Kind("outlier_times", ("spectra",)),
    "spacing_ratios": Kind("spacing_ratios", ("spectra",), shows_all_layers=True),
    "gradient_noise": Kind("gradient_noise", ("gradient_noise",), shows_all_layers=True),
    "linear_scaling": Kind("linear_scaling", ("linear_scaling",), shows_all_layers=True),
    **_BULK,
    **{
        f"bulk_map_{column}": Kind("bulk_map", ("bulk",), {"column": column}, shows_all_layers=True)
        for column in MAPPED
    },
    "dyson_levels": Kind("dyson_levels", ("spectra",), model="dyson"),
    "hermite_zeros": Kind("hermite_zeros", ("spectra",), model="dyson"),
    "dyson_index": Kind("dyson_index", ("fits",), model="dyson"),
    "phase_diagram": Kind("phase_diagram", ("weights",), model="two_layer_student"),
    "regimes": Kind("regimes", ("weights",), model="two_layer_student"),
    "regime_levels": Kind("regime_levels", ("weights", "spectra"), model="two_layer_student"),
    "drift_and_diffusion": Kind("drift_and_diffusion", ("weights",), model="two_layer_student"),
}
"""All figures by name."""

BULK = (*_BULK, "bulk_map_outliers_above")
"""Figures that a study of large matrices draws by default, too."""
BULK_ONCE = ("bulk_spectrum", "bulk_spacings", "bulk_tail")
"""Those of them that do not show how it changes over training."""

IN_TIME = (
    *("evolution", "first_passage", "escape", "motion", "motion_index", "paths", "autocorrelation"),
    *("dyson_levels", "hermite_zeros", "loss_curve", "singular_values", "linear_scaling"),
    *("outlier_times", "spacing_ratios", "gradient_noise"),
    *("phase_diagram", "regimes", "regime_levels", "drift_and_diffusion"),
    *(name for name in FIGURES if name.startswith("bulk_")),
)
"""Figures of levels in time or of a bulk: a study that draws no others is not fitted."""

STATIONARY = tuple(_DEFAULT)
"""Figures of the stationary state that a study draws by default."""


def needs_lags(name: str) -> bool:
    """Whether a figure reads the increments of its runs."""
    return "increments" in FIGURES[name].inputs


def needs_bulk(name: str) -> bool:
    """Whether a figure reads the bulk of its runs."""
    return "bulk" in FIGURES[name].inputs


def needs_fits(name: str) -> bool:
    """Whether a figure reads the fits of its runs, or laws made of them."""
    return bool({"fits", "scaling"} & set(FIGURES[name].inputs))


def shows_laws(name: str) -> bool:
    """Whether a figure shows laws of a study, which are laws in learning_rate and batch_size."""
    return bool({"scaling", "linear_scaling"} & set(FIGURES[name].inputs))

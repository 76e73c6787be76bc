"""A results folder: where every file of it lies, and readers for its tables."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dysonflow.wording import did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from dysonflow.hyperparameters import Hyperparameters

WEIGHTS, SPECTRA, FITS = "weights.safetensors", "spectra.parquet", "fits.parquet"
INCREMENTS, BULK = "increments.parquet", "bulk.parquet"
LAYERS = "layers.parquet"
GRADIENT_NOISE = "gradient_noise.parquet"
"""Files in the folder of a run."""
RUN_FILES = (LAYERS, WEIGHTS, SPECTRA, INCREMENTS, BULK, GRADIENT_NOISE, FITS)
RUN_NAME = r"(?:[^/]+-)?[0-9a-f]{12}"
"""Regular expression of the name of a run: a hint for people, and its key."""
FIGURE_FILES = {"png": ".png", "pdf": ".pdf", "csv": ".csv", "caption": ".rst"}
"""Files of a figure, by what they hold."""


@dataclass(frozen=True)
class Results:
    """Where the files of a results folder lie.

    Every method takes names, or the wildcards of a Snakemake rule (the defaults) in their place.

    Attributes
    ----------
    root : str
        The folder.
    """

    root: str = "results"

    def run(self, model: str = "{model}", run: str = "{run}") -> str:
        """Folder of a run."""
        return f"{self.root}/runs/{model}/{run}"

    def run_file(self, file: str, model: str = "{model}", run: str = "{run}") -> str:
        """A file of `RUN_FILES` of a run."""
        return f"{self.run(model, run)}/{file}"

    def shard(
        self,
        model: str = "{model}",
        run: str = "{run}",
        first: int | str = "{first}",
        stop: int | str = "{stop}",
    ) -> str:
        """Weights of some replicas of a run."""
        return f"{self.run(model, run)}/shards/{first}-{stop}.safetensors"

    def scaling(self, study: str = "{study}") -> str:
        """Laws of a study."""
        return f"{self.root}/studies/{study}/scaling.parquet"

    def scaling_page(self, study: str = "{study}") -> str:
        """The same as a page of the report."""
        return f"{self.root}/studies/{study}/scaling.html"

    def linear_scaling(self, study: str = "{study}") -> str:
        """Whether only learning rate over batch size counts in a study."""
        return f"{self.root}/studies/{study}/linear_scaling.parquet"

    def noise_response(self, study: str = "{study}") -> str:
        """What these laws are made of: the measured values of all runs."""
        return f"{self.root}/studies/{study}/noise_response.parquet"

    def linear_scaling_page(self, study: str = "{study}") -> str:
        """The laws as a page of the report."""
        return f"{self.root}/studies/{study}/linear_scaling.html"

    def figure(self, kind: str, study: str = "{study}", figure: str = "{figure}") -> str:
        """A file of a figure: `png`, `pdf`, `csv` or `caption`."""
        return f"{self.root}/figures/{study}/{figure}{FIGURE_FILES[kind]}"

    @property
    def runs_table(self) -> str:
        """Table of all runs."""
        return f"{self.root}/runs.parquet"

    @property
    def document(self) -> str:
        """The paper against the results."""
        return f"{self.root}/reproduction.md"

    @property
    def document_page(self) -> str:
        """The same as a page of the report."""
        return f"{self.root}/reproduction.html"

    @property
    def report(self) -> str:
        """The page that tells what was run and what came out."""
        return f"{self.root}/report.html"

    def log(self, *parts: str) -> str:
        """Log of a job."""
        return f"{self.root}/logs/{'/'.join(parts)}.log"

    def files_of(self, run: "Hyperparameters") -> dict[str, str]:
        """Paths of the `RUN_FILES` of a run by what they hold: `weights`, `spectra`, `fits`, .."""
        return {Path(file).stem: self.run_file(file, run.MODEL, run.name) for file in RUN_FILES}


def _find(results: str | os.PathLike[str], pattern: str) -> list[Path]:
    found = sorted(Path(results).glob(pattern))
    if not found:
        raise FileNotFoundError(
            f"{results}: no {pattern.split('/')[-1]} in it; run snakemake, or give another folder"
        )
    return found


def _read(
    results: str | os.PathLike[str],
    pattern: str,
    columns: Sequence[str] | None = None,
    layer: str | None = None,
    study: str | None = None,
) -> "pd.DataFrame":
    from dysonflow.artifacts.tables import read_table

    paths = _find(results, pattern)
    if study is not None:
        named = _runs_of(results, study)
        paths = [path for path in paths if path.parent.name in named]
        if not paths:
            raise FileNotFoundError(f"{results}: no run of study {study!r} is as far yet")
    return read_table(paths, columns, layer)


def _runs_of(results: str | os.PathLike[str], study: str) -> set[str]:
    """Names of the runs of a study, from the table of all runs."""
    runs = read_runs(results)
    named = runs.loc[[study in studies for studies in runs["studies"]], "run"]
    if named.empty:
        known = sorted({name for studies in runs["studies"] for name in studies})
        raise FileNotFoundError(f"{results}: no study {study!r}{did_you_mean(study, known)}")
    return set(named)


def read_spectra(
    results: str | os.PathLike[str] = "results",
    model: str = "*",
    columns: Sequence[str] | None = None,
    layer: str | None = None,
    study: str | None = None,
) -> "pd.DataFrame":
    """Read the eigenvalues of all runs.

    Parameters
    ----------
    results : path-like
        Results folder of the workflow.
    model : str
        Only runs of this model; all by default.
    columns : sequence of str, optional
        Only these columns: saves memory where there are many rows.
    layer : str, optional
        Only this layer; all by default.
    study : str, optional
        Only the runs that this study names, as of the last call of the workflow; all by default.

    Returns
    -------
    pandas.DataFrame
        One row per eigenvalue of X = W^T W: `run, model, layer, replica, snapshot, step, index,
        eigenvalue` and every hyperparameter. A hyperparameter that a model does not have is
        missing in its rows.

    Raises
    ------
    FileNotFoundError
        If there are none, or there is no such study.
    ArtifactError
        If a file is damaged.
    """
    return _read(results, f"runs/{model}/*/{SPECTRA}", columns, layer, study)


def read_fits(
    results: str | os.PathLike[str] = "results",
    model: str = "*",
    layer: str | None = None,
    study: str | None = None,
) -> "pd.DataFrame":
    """Read the fits of all runs: one row per run, layer and block of degenerate levels.

    Parameters and errors are those of `read_spectra`; `docs/tables.md` explains the columns.
    """
    return _read(results, f"runs/{model}/*/{FITS}", layer=layer, study=study)


def read_increments(
    results: str | os.PathLike[str] = "results",
    model: str = "*",
    layer: str | None = None,
    study: str | None = None,
) -> "pd.DataFrame":
    """Read the coefficients of the motion: one row per run with lags, layer, lag and method.

    Parameters and errors are those of `read_spectra`; `docs/tables.md` explains the columns.
    """
    return _read(results, f"runs/{model}/*/{INCREMENTS}", layer=layer, study=study)


def read_layers(
    results: str | os.PathLike[str] = "results",
    model: str = "*",
    layer: str | None = None,
    study: str | None = None,
) -> "pd.DataFrame":
    """Read what became of each tensor of whole networks: read, or the reason why it is not.

    Parameters and errors are those of `read_spectra`; `docs/tables.md` explains the columns.
    """
    return _read(results, f"runs/{model}/*/{LAYERS}", layer=layer, study=study)


def read_bulk(
    results: str | os.PathLike[str] = "results",
    model: str = "*",
    columns: Sequence[str] | None = None,
    layer: str | None = None,
    study: str | None = None,
) -> "pd.DataFrame":
    """Read the bulk of all runs with large matrices: one row per run, layer, snapshot, replica.

    Parameters and errors are those of `read_spectra`; `docs/tables.md` explains the columns.
    """
    return _read(results, f"runs/{model}/*/{BULK}", columns, layer, study)


def read_gradient_noise(
    results: str | os.PathLike[str] = "results",
    model: str = "*",
    layer: str | None = None,
    study: str | None = None,
) -> "pd.DataFrame":
    """Read the noise of the gradient: one row per run, layer, step and singular value.

    Parameters and errors are those of `read_spectra`; `docs/tables.md` explains the columns.
    """
    return _read(results, f"runs/{model}/*/{GRADIENT_NOISE}", layer=layer, study=study)


def read_scaling(
    results: str | os.PathLike[str] = "results", study: str = "*", layer: str | None = None
) -> "pd.DataFrame":
    """Read the laws tested over the runs of each study: one row per study, layer and law.

    Parameters and errors are those of `read_spectra`; `docs/tables.md` explains the columns.
    """
    return _read(results, f"studies/{study}/scaling.parquet", layer=layer)


def read_linear_scaling(
    results: str | os.PathLike[str] = "results", study: str = "*", layer: str | None = None
) -> "pd.DataFrame":
    """Read the tests of the linear scaling rule: one row per study, layer, quantity, level and law.

    Parameters and errors are those of `read_spectra`; `docs/tables.md` explains the columns.
    """
    return _read(results, f"studies/{study}/linear_scaling.parquet", layer=layer)


def read_noise_response(
    results: str | os.PathLike[str] = "results", study: str = "*", layer: str | None = None
) -> "pd.DataFrame":
    """Read loss, levels and their fluctuations: one row per run, layer, quantity and level.

    Parameters and errors are those of `read_spectra`; `docs/tables.md` explains the columns.
    """
    return _read(results, f"studies/{study}/noise_response.parquet", layer=layer)


def read_runs(results: str | os.PathLike[str] = "results") -> "pd.DataFrame":
    """Read the table of all runs: hyperparameters, the studies that name each, and its status."""
    return _read(results, "runs.parquet")

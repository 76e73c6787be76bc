"""Singular values of a layer over training, and when they leave the bulk of the start."""

import math

import numpy as np

from dysonflow.report.figures._study import Drawing, StudyData, colours, curve, told_apart

MOST_RUNS = 3
"""Runs that are shown one above the other."""
TRACY_WIDOM = 3.2724
"""The largest eigenvalue of a random real matrix lies below this in 99.9 % of cases, in the units
of I. M. Johnstone, Ann. Statist. 29, 295 (2001)."""
MOST_NAMED = 6
"""Levels whose step of leaving is marked."""


def draw(data: StudyData) -> Drawing:
    """Draw the mean of each singular value, the edges of the start, and the steps of leaving."""
    runs = data.representative(MOST_RUNS)
    names = told_apart(runs)
    numbers, left = [], []
    with data.page.look():
        figure = data.page.figure(7.2, 0.6 + 3.6 * len(runs), 0.5 + 2.6 * len(runs))
        panels = figure.subplots(len(runs), 1, squeeze=False, sharex=True)[:, 0]
        for panel, run, name in zip(panels, runs, names, strict=True):
            shape = run.layers()[data.layer]
            values = np.sqrt(np.clip(data.eigenvalues(run)[..., -min(shape) :], 0.0, None))
            steps = data.steps(run)
            low, high, threshold = edges(values[:, 0], *shape)
            mean = values.mean(axis=0)
            tints = colours(mean.shape[1])
            for i, tint in enumerate(tints):
                panel.plot(steps, mean[:, i], color=tint, lw=0.8)
                numbers.append(curve(run.name, f"singular value {i}", steps, mean[:, i]))
            panel.axhspan(low, high, color="grey", alpha=0.2, lw=0, label="Marchenko-Pastur, start")
            panel.axhline(threshold, color="black", ls="--", lw=0.9, label="99.9 % of its maxima")
            when = leaving(values, steps, threshold)
            counted = np.isfinite(when).sum(axis=0)
            # Of levels that leave in at least half of the replicas, the largest.
            out = [i for i in range(mean.shape[1]) if 2 * counted[i] >= len(when)]
            for number, i in enumerate(reversed(out[-MOST_NAMED:])):
                own = when[:, i][np.isfinite(when[:, i])]
                middle = float(np.median(own))
                panel.errorbar(
                    middle,
                    threshold,
                    xerr=[[middle - own.min()], [own.max() - middle]],
                    color=tints[i],
                    marker="o",
                    ms=4,
                    mec="black",
                    mew=0.5,
                    lw=0.9,
                    zorder=3,
                    label="leaves, median and range over replicas" if number == 0 else None,
                )
                ends = {"x_low": own.min(), "x_high": own.max()}
                numbers.append(curve(run.name, f"leaves {i}", [middle], [threshold], **ends))
            numbers.append(
                curve(run.name, "edges of the start", [steps[0]] * 3, [low, high, threshold])
            )
            left.append(_in_words(run.name, steps, when, out, len(mean[0])))
            panel.set_ylabel("singular value")
            panel.set_ylim(bottom=0.0)
            panel.margins(x=0.01)
            if name:
                panel.set_title(("\n" if data.page.is_column else ", ").join(name), loc="left")
        panels[-1].set_xlabel("SGD step")
        handles, labels = panels[0].get_legend_handles_labels()
        # Below: the name of the layer stands above.
        ncols = 1 if data.page.is_column else len(labels)
        figure.legend(handles, labels, loc="outside lower center", ncols=ncols)
    caption = (
        f"Singular values of study {data.title} over training, means over replicas in ascending "
        "order. Grey: bulk of independent entries with the variance of the first snapshot; dashed: "
        f"99.9 % of its largest values lie below. {' '.join(left)}"
    )
    axes = {"": ("step [SGD steps]", f"singular value of {data.layer}")}
    return Drawing(figure, caption, numbers, axes)


def edges(start: np.ndarray, rows: int, columns: int) -> tuple[float, float, float]:
    """Edges of the Marchenko-Pastur law of singular values, and where no chance value lies.

    Parameters
    ----------
    start : np.ndarray
        Singular values of the start, shape (replica, level).
    rows, columns : int
        M and N; the law is that of M x N independent entries of the variance that the start has.

    Returns
    -------
    low, high, threshold : float
        w |sqrt M - sqrt N| and w (sqrt M + sqrt N), and the value that the largest of one such
        matrix exceeds once in a thousand cases (Johnstone 2001, equation 1.4).
    """
    width = math.sqrt(float((start**2).sum(axis=1).mean()) / (rows * columns))
    large, small = max(rows, columns), min(rows, columns)
    root = math.sqrt(large - 1) + math.sqrt(small)
    tail = root * (1 / math.sqrt(max(large - 1, 1)) + 1 / math.sqrt(small)) ** (1 / 3)
    threshold = width * math.sqrt(root**2 + TRACY_WIDOM * tail)
    low, high = abs(math.sqrt(rows) - math.sqrt(columns)), math.sqrt(rows) + math.sqrt(columns)
    return width * low, width * high, threshold


def leaving(values: np.ndarray, steps: np.ndarray, threshold: float) -> np.ndarray:
    """Step of the first snapshot from which on a level stays above a threshold.

    Parameters
    ----------
    values : np.ndarray
        Shape (replica, snapshot, level).
    steps : np.ndarray
        Shape (snapshot,).
    threshold : float
        In units of the values.

    Returns
    -------
    np.ndarray
        Shape (replica, level); NaN for a level that is not above at the last snapshot.
    """
    above = values > threshold
    # Above from a snapshot on: above at each of the later ones.
    stays = np.logical_and.accumulate(above[:, ::-1], axis=1)[:, ::-1]
    found = steps[stays.argmax(axis=1)].astype(np.float64)
    found[~stays.any(axis=1)] = np.nan
    return found


def _in_words(run: str, steps: np.ndarray, when: np.ndarray, out: list[int], levels: int) -> str:
    """How many leave, and when the first does."""
    if not out:
        return f"Run ``{run}``: no level leaves by step {steps[-1]}."
    first = np.nanmin(when, axis=1)
    first = first[np.isfinite(first)]
    return (
        f"Run ``{run}``: {len(out)} of {levels} levels leave in at least half of the replicas, the "
        f"first at step {np.median(first):g} ({first.min():g} to {first.max():g} over replicas; "
        f"snapshots lie {np.median(np.diff(steps)) if len(steps) > 1 else 0:g} steps apart)."
    )

"""When noise drives runs off an unstable start, beside the law of theory."""

import numpy as np

from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    name_of,
    nothing_fitted,
)
from dysonflow.report.quoting import quote
from dysonflow.statistics.first_passage import first_passage


def draw(data: StudyData) -> Drawing:
    """Draw the times of escape, and their means against the logarithm that theory expects."""
    from scipy.stats import kstest

    escapes = [
        None if data.theory is None else data.theory.escape(run, data.layer) for run in data.runs
    ]
    shown = [(run, law) for run, law in zip(data.runs, escapes, strict=True) if law is not None]
    if not shown:
        return nothing_fitted(data, "escape")
    numbers, sentences = [], []
    with data.page.look():
        figure = data.page.figure(9.0, 4.2, 5.4)
        shape = (2, 1) if data.page.is_column else (1, 2)
        left, right = figure.subplots(*shape)
        for (run, law), colour in zip(shown, colours(len(shown)), strict=True):
            total = data.levels(run).sum(axis=2)
            times = first_passage(total, data.steps(run), law.threshold)
            ordered = np.sort(times[np.isfinite(times)])
            share = (np.arange(len(ordered)) + 0.5) / len(times)
            grid = np.linspace(0.0, float(data.steps(run)[-1]), 200)
            name = name_of(run)
            first = run is shown[0][0]
            left.plot(
                grid,
                law.probability(grid),
                color="black",
                ls="--",
                label="theory (no free parameter)" if first else None,
            )
            left.step(ordered, share, where="mid", color=colour, label=name)
            numbers += [
                curve(name, "measured", ordered, share),
                curve(name, "theory", grid, law.probability(grid)),
            ]
            if len(ordered) < len(times) or len(times) < 2:
                sentences.append(f"{name}: {len(times) - len(ordered)} replicas have not left")
                continue
            p = float(kstest(ordered, law.probability).pvalue)
            mean, error = float(times.mean()), float(times.std(ddof=1) / np.sqrt(len(times)))
            place = float(np.log(law.passed / law.seed))
            unit = float(np.log1p(law.rate))
            right.errorbar(place, unit * mean, unit * error, color=colour, fmt="o")
            numbers.append(
                curve("mean", name, [place], [unit * mean], y_error=[unit * error], p_value=p)
            )
            sentences.append(
                f"{name}: {quote(mean, error)} SGD steps, theory {law.mean:.4g}; p = {p:.2g}"
            )
        places = np.log([law.passed / law.seed for _, law in shown])
        ends = np.array([places.min() - 0.3, places.max() + 0.3])
        line = ends + (np.euler_gamma + np.log(2.0)) / 2.0
        right.plot(ends, line, color="black", ls="--")
        numbers.append(curve("mean", "theory", ends, line))
        left.set_xlabel("SGD step of the escape")
        left.set_ylabel("share of the replicas")
        right.set_xlabel(r"log(amplitude of passage / amplitude of the noise)")
        right.set_ylabel(r"mean time $\times$ growth rate")
        handles, labels = left.get_legend_handles_labels()
        legend_above(figure, handles, labels, columns=2)
    caption = (
        f"Escape from an unstable start, study {data.title}: a mode has the place of one of lower "
        "kappa, and noise alone lets the other one win. Left: share of the replicas whose levels "
        "have come half of the way; dashed: theory of the Gaussian amplitude that grows, without a "
        "free parameter. Right: the mean time in units of the growth time, against the logarithm "
        f"that theory expects. {'; '.join(sentences)} (p: Kolmogorov-Smirnov, whole replicas)."
    )
    axes = {
        "": ("escape [SGD steps]", "share of the replicas"),
        "mean": ("log(amplitude of passage / of the noise)", "mean time x growth rate"),
    }
    return Drawing(figure, caption, numbers, axes)

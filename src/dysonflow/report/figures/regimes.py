"""Which regime holds where: learnt, frozen at the start, order of the start kept, diverged."""

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from dysonflow.analysis.regimes import FROZEN, KEPT, LEARNT, REGIMES
from dysonflow.report.figures import _phases
from dysonflow.report.figures._page import legend_above
from dysonflow.report.figures._study import Drawing, StudyData

COLOURS = ("#1b7837", "#4393c3", "#92c5de", "#d6604d")
NAMES = {
    "learnt": "learnt",
    "frozen": "frozen at the start",
    "kept": "order of the start kept",
    "diverged": "diverged or carried away",
}


def draw(data: StudyData) -> Drawing:
    """Draw the regime of most replicas, and the share of them where not all agree."""
    found = _phases.plane(data)
    with data.page.look():
        figure = data.page.figure(6.2, 5.2, 3.8)
        panel = figure.subplots()
        panel.pcolormesh(
            _phases.edges(found.widths),
            _phases.edges(found.rates),
            found.map({place: one.common_regime for place, one in found.outcomes.items()}),
            cmap=ListedColormap(COLOURS),
            vmin=-0.5,
            vmax=len(REGIMES) - 0.5,
        )
        numbers, stopped = [], 0
        for width, rate, one in _phases.flat(found):
            shares = np.bincount(one.regime, minlength=len(REGIMES)) / len(one.regime)
            if shares.max() < 1.0 and not data.page.is_column:
                place = (np.log2(width), np.log2(rate))
                text = f"{100 * shares.max():.0f}"
                panel.annotate(text, place, ha="center", va="center", fontsize=6)
            stopped += int((one.diverged_at >= 0).sum())
            numbers.append(
                pd.DataFrame(
                    {
                        "panel": f"a/B = {rate:g}",
                        "curve": list(REGIMES),
                        "x": width,
                        "y": shares,
                        "y_error": np.sqrt(shares * (1 - shares) / len(one.regime)),
                    }
                )
            )
        _phases.prepare(panel, found)
        present = sorted({one.common_regime for one in found.outcomes.values()})
        handles = [Patch(color=COLOURS[i]) for i in present]
        legend_above(figure, handles, [NAMES[REGIMES[i]] for i in present], 4)
    counts = np.bincount(
        [one.common_regime for one in found.outcomes.values()], minlength=len(REGIMES)
    )
    listed = ", ".join(f"{NAMES[name]}: {counts[i]}" for i, name in enumerate(REGIMES))
    total = sum(len(one.regime) for one in found.outcomes.values())
    caption = (
        f"Regimes of study {data.title} (points: {listed}). Learnt: loss below {LEARNT:g} of that "
        "of the mean output. Of the others, diverged or carried away: the replica stopped, or the "
        f"cosine between its weights and those of its start is below {KEPT:g}; frozen: it moved by "
        f"less than {FROZEN:g} of the length of its start; else the order of the start is kept. "
        f"Colour: the regime of most replicas; numbers: their share in per cent, where not all "
        f"agree. {stopped} of {total} replicas stopped because their gradient grew beyond all "
        "bounds."
    )
    return Drawing(figure, caption, numbers, {"": ("initial width", "share of the replicas")})

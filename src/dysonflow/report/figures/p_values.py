"""P-values of the tests of every block, which are uniform if the law holds."""

import numpy as np

from dysonflow.report.figures._study import (
    Drawing,
    StudyData,
    colours,
    curve,
    nothing_fitted,
)
from dysonflow.statistics.goodness import benjamini_hochberg

TESTS = {
    "surmise_p_value": "gaps on the Wigner surmise",
    "density_p_value": "levels on the block density",
    "angle_p_value": "eigenvectors of a pair uniform",
}
AXES = ("expected p-value", "sorted p-value")
FALSE_DISCOVERY_RATE = 0.01


def draw(data: StudyData) -> Drawing:
    """Draw the sorted p-values of each test against those of a uniform law."""
    fits = data.fit_table
    if fits[list(TESTS)].isna().all(axis=None):
        return nothing_fitted(data, "block")
    numbers, sentences = [], []
    with data.page.look():
        figure = data.page.figure(5.2, 4.8, 3.0)
        axes = figure.subplots()
        looks = zip(TESTS.items(), colours(len(TESTS)), "os^", strict=True)
        for (column, name), colour, marker in looks:
            values = np.sort(fits[column].dropna().to_numpy())
            if not len(values):
                continue
            expected = (np.arange(len(values)) + 0.5) / len(values)
            rejected = int(benjamini_hochberg(values, FALSE_DISCOVERY_RATE)[0].sum())
            axes.plot(expected, values, marker, color=colour, ms=3, label=name)
            numbers.append(curve(column, "sorted", expected, values))
            sentences.append(f"{name}: {rejected} of {len(values)}")
        axes.plot([0, 1], [0, 1], color="black", label="uniform")
        axes.set_xlabel(AXES[0])
        axes.set_ylabel(AXES[1])
        axes.legend(loc="upper left")
    caption = (
        f"P-values of study {data.title}, one for each run and block, sorted: on the diagonal "
        "where what is tested holds, below it where it does not. The tests fit scale "
        "and centre themselves and know nothing of the theory of the run. Rejected at a false "
        f"discovery rate of {FALSE_DISCOVERY_RATE:.0%} (Benjamini-Hochberg): "
        f"{'; '.join(sentences)}. The density is that of a block on its own: at strong noise the "
        "repulsion of other levels distorts it, most for blocks with a near neighbour."
    )
    return Drawing(figure, caption, numbers, {"": AXES})

"""Tables of docs/networks.md, from the results of config/networks.yaml.

snakemake --cores 2 --configfile config/networks.yaml
python benchmarks/networks.py results
"""

import argparse
import math

import numpy as np

import dysonflow
from dysonflow.analysis.linear_scaling import (
    EQUAL_NOISE,
    EQUAL_ROOT_NOISE,
    EXCHANGE,
    EXPONENT_A,
    EXPONENT_B,
    equal_pairs,
)
from dysonflow.analysis.noise_response import ALL, DIFFUSION, FLUCTUATION, LOSS, WIDTH
from dysonflow.report.quoting import quote

STUDIES = {
    "tanh_scaling": "tanh, SGD",
    "linear_scaling": "linear, SGD",
    "digits_scaling": "digits, SGD",
    "tanh_adam": "tanh, Adam",
}
NOISES = {"tanh_scaling": 1 / 160, "linear_scaling": 1 / 160, "digits_scaling": 1 / 80}
"""Noise a/B of the longest row of runs of equal noise."""


def exponents(results: str) -> None:
    """Exponents and ratios of each network, layer and quantity."""
    print(
        "| network | quantity | exponent in a | exponent in B | q | equal a/B | equal a/sqrt(B) |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    laws = (EXPONENT_A, EXPONENT_B, EXCHANGE, EQUAL_NOISE, EQUAL_ROOT_NOISE)
    for study, name in STUDIES.items():
        table = dysonflow.read_linear_scaling(results, study)
        table = table[table["level"] == ALL]
        for quantity in (LOSS, FLUCTUATION, WIDTH):
            for layer, rows in table[table["quantity"] == quantity].groupby("layer", sort=False):
                found = rows.set_index("law")
                cells = [
                    quote(found.loc[law, "value"], found.loc[law, "error"])
                    if law in found.index
                    else ""
                    for law in laws
                ]
                what = f"{quantity} {layer}".strip().replace("_", " ")
                print(f"| {name} | {what} | {' | '.join(cells)} |")


def ratios(results: str) -> None:
    """Ratios to the run of the smallest learning rate, at one noise for each network."""
    rows: dict[str, dict[float, str]] = {}
    for study, noise in NOISES.items():
        points = dysonflow.read_noise_response(results, study)
        points = points[points["level"] == ALL]
        for (quantity, layer), same in points.groupby(["quantity", "layer"], sort=False):
            if quantity not in (LOSS, FLUCTUATION, DIFFUSION):
                continue
            pairs = equal_pairs(same)
            pairs = pairs[np.isclose(pairs["noise"], noise)]
            for _, pair in pairs.iterrows():
                optimiser = same.set_index("run").loc[pair["run"], "optimiser"]
                error = pair["ratio"] * math.hypot(pair["own_error"], pair["reference_error"])
                name = STUDIES[study].replace("SGD", str(optimiser))
                row = rows.setdefault(f"{name} | {quantity} {layer}".strip(), {})
                row[round(pair["effective_rate"], 9)] = quote(pair["ratio"], error)
    rates = sorted({rate for row in rows.values() for rate in row})
    print("| network | quantity | " + " | ".join(f"{rate:g}" for rate in rates) + " |")
    print("| --- " * (2 + len(rates)) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(row.get(rate, "") for rate in rates) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="?", default="results")
    given = parser.parse_args()
    exponents(given.results)
    print()
    ratios(given.results)


if __name__ == "__main__":
    main()

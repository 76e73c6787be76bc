"""Noise of the gradient of a transformer, by AdamW and by momentum (docs/gradient_noise.md).

python benchmarks/gradient_noise.py
"""

import sys

import dysonflow

STEPS = (0, 100, 1000)
RUNS = {
    "adamw": {},
    "momentum": {"optimiser": "momentum", "learning_rate": 0.1},
}
COLUMNS = ("mean_anisotropy", "effective_dimension", "measured_over_predicted")


def main() -> None:
    """Train both, and print a row for each layer and step."""
    for name in sys.argv[1:] or RUNS:
        frame = dysonflow.gradient_noise(
            "char_gpt", RUNS[name], steps=STEPS, samples=128, branches=32
        )
        frame.to_parquet(f"gradient_noise_{name}.parquet")
        print(f"\n{name}")
        print(
            "layer step entries trace isotropy-of-mean dimension measured/predicted lowest largest"
        )
        for (step, layer), rows in frame.groupby(["step", "layer"], sort=False):
            one = rows.iloc[0]
            values = [f"{one[key]:.3g}({one[key + '_error']:.1g})" for key in COLUMNS]
            ends = [
                f"{rows['anisotropy'].iloc[k]:.2f}({rows['anisotropy_error'].iloc[k]:.2f})"
                for k in (0, -1)
            ]
            print(layer, step, one["entries"], f"{one['trace']:.3g}", *values, *ends, flush=True)


if __name__ == "__main__":
    main()

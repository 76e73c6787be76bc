"""A small study of each kind, from training to figures, on a device.

By the workflow if Snakemake is there, else stage by stage in this process, without figures.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
STUDIES = {
    "student": {
        "model": "teacher_student",
        "hyperparameters": {"replicas": 256, "snapshots": 4},
        "sweep": {"learning_rate": [0.2, 0.4]},
        "figures": ["spectrum", "sigma"],
    },
    "digits": {
        "model": "mlp",
        "hyperparameters": {
            "replicas": 64,
            "burn_in": 100,
            "steps": 200,
            "snapshots": 2,
            "learning_rate": 0.1,
        },
        "figures": ["spectrum"],
    },
}
SHOWN = ("student/spectrum.png", "digits/W1/spectrum.png")
"""Figures that are handed on, of `results/figures`."""


def by_the_workflow(device: str, work: Path) -> list[Path]:
    """Call Snakemake in an empty folder; figures to hand on."""
    work.mkdir(parents=True)
    config = work / "study.yaml"
    # JSON is YAML.
    settings = {"device": device, "studies": STUDIES}
    config.write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(work), "--configfile", str(config), "--cores", "2"]
    subprocess.run(command, check=True)
    return [work / "results" / "figures" / name for name in SHOWN]


def by_stages(device: str) -> None:
    """Train each run, take its spectra, and fit where theory knows the levels."""
    import dysonflow

    for study in STUDIES.values():
        run = dysonflow.train(study["model"], study["hyperparameters"], device=device)
        spectra = dysonflow.spectra(run)
        print(f"{run.name}: {run.implementation}, {len(spectra)} eigenvalues")
        if study["model"] == "teacher_student":
            print(dysonflow.fit(run)[["sigma", "sigma_error", "sigma_theory"]].to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--out", type=Path, required=True, help="where figures are copied to")
    options = parser.parse_args()
    if importlib.util.find_spec("snakemake") is None:
        by_stages(options.device)
        return
    for figure in by_the_workflow(options.device, options.work):
        name = "-".join(figure.relative_to(options.work / "results" / "figures").parts)
        shutil.copy(figure, options.out / name)


if __name__ == "__main__":
    main()

"""Summary of check.sh: how each part ended, on which card, as Markdown and as JSON."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any


def machine(device: str) -> dict[str, Any]:
    """Card, driver and versions; what cannot be found out is left out."""
    found: dict[str, Any] = {"device": device, "python": platform.python_version()}
    try:
        import torch

        found |= {"torch": torch.__version__, "cuda": torch.version.cuda}
        if torch.cuda.is_available():
            card = torch.cuda.get_device_properties(0)
            found |= {"card": card.name, "memory_gb": round(card.total_memory / 1e9, 1)}
            found["architecture"] = f"sm_{card.major}{card.minor}"
    except ImportError as error:
        found["torch"] = str(error)
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20).stdout
        found["driver"] = said.split()[0] if said.split() else None
    except (OSError, subprocess.SubprocessError):
        found["driver"] = None
    return found


def main() -> None:
    parts, out, device = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    names = ("part", "status", "seconds", "last_line")
    rows = [
        dict(zip(names, line.split("\t"), strict=True))
        for line in parts.read_text(encoding="utf-8").splitlines()
    ]
    about = machine(device)
    text = json.dumps({"machine": about, "parts": rows}, indent=1)
    (out / "summary.json").write_text(text + "\n", encoding="utf-8")
    lines = ["# Checks on a GPU", ""]
    lines += [f"- {key}: {value}" for key, value in about.items()]
    lines += ["", "| part | status | s | last line |", "| --- | --- | --- | --- |"]
    for row in rows:
        last = row["last_line"].replace("|", "\\|")
        lines.append(f"| {row['part']} | {row['status']} | {row['seconds']} | {last} |")
    (out / "summary.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

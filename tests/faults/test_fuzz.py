"""Some cases of the campaign against the readers of foreign files."""

import subprocess
import sys
from pathlib import Path

import fuzz
import pytest
from limits import HANGING

CASES = 150
PAGES = Path("/proc/self/statm")


@pytest.mark.skipif(not PAGES.exists(), reason="the limits are those of Linux")
@pytest.mark.parametrize("suffix", fuzz.FORMATS)
def test_every_file_is_read_or_refused_in_one_line(suffix):
    # In a process of its own, that forks: this one has threads of torch.
    command = [sys.executable, fuzz.__file__, "--cases", str(CASES), "--format", suffix]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGING)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{suffix}: {{'read': " in done.stdout and "'refused': " in done.stdout


@pytest.mark.parametrize("suffix", fuzz.FORMATS)
def test_the_campaign_would_notice(suffix, monkeypatch, tmp_path):
    path = Path(tmp_path, f"a.{suffix}")
    path.write_bytes(fuzz.sound(suffix)[0])
    assert fuzz.outcome(path) == "read"
    path.write_bytes(b"foreign")
    assert fuzz.outcome(path) == "refused"
    monkeypatch.setattr(fuzz.arrays, "_unreadable", lambda path, reason: KeyError(reason))
    assert fuzz.outcome(path).startswith("KeyError: ")

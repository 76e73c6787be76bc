"""Null laws: the table is what the simulation gives, and a damaged one is refused."""

import re

import numpy as np
import pytest

from dysonflow.errors import ArtifactError
from dysonflow.statistics.null_laws import (
    TABLE,
    TABULATED,
    DensityNull,
    SurmiseNull,
    null_distances,
    read_table,
    simulated_size,
    tail_probability,
    write_table,
)


def name(law):
    return law.name


@pytest.mark.parametrize("law", [law for law in TABULATED if law.data_sets > 10_000], ids=name)
def test_table_is_what_the_simulation_gives(law):
    # Mathematical libraries of machines differ in the last bit.
    assert read_table(law) == pytest.approx(law.simulate(), rel=1e-12)


def test_table_holds_the_laws_it_should():
    with np.load(TABLE, allow_pickle=False) as table:
        found = {name: table[name] for name in table.files}
    assert {law.name: (law.data_sets,) for law in TABULATED} == {
        name: null.shape for name, null in found.items()
    }
    for null in found.values():
        assert null.dtype == np.float64
        assert np.all(null > 0) and np.all(np.diff(null) >= 0)
    assert TABLE.stat().st_size < 500_000


def test_large_data_sets_of_pairs_and_single_levels_are_in_the_table():
    assert SurmiseNull(simulated_size(2)[0], 1, True) in TABULATED
    for n in (1, 2, 4, 16, 64):
        assert DensityNull(simulated_size(n)[0], n, 1.0, True, True) in TABULATED


def test_other_laws_are_simulated():
    law = SurmiseNull(20, 2, True)
    null = null_distances(law)
    assert null.shape == (law.data_sets,) and np.all(np.diff(null) >= 0)
    with pytest.raises(ArtifactError, match="surmise_20_blocks_beta_2_scale_fitted"):
        read_table(law)


@pytest.mark.parametrize("kept", [None, 0, 100, 200_000, TABLE.stat().st_size - 10])
def test_damaged_table_is_refused(tmp_path, kept):
    path = tmp_path / "null_laws.npz"
    if kept is not None:
        path.write_bytes(TABLE.read_bytes()[:kept])
    command = "python -m dysonflow.statistics.null_laws makes it anew"
    with pytest.raises(RuntimeError, match=f"{re.escape(str(path))}.*{command}"):
        read_table(TABULATED[0], path)


def test_table_with_other_bytes_is_refused(tmp_path):
    path = tmp_path / "null_laws.npz"
    raw = bytearray(TABLE.read_bytes())
    raw[10_000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ArtifactError, match="null_laws"):
        read_table(TABULATED[0], path)


def test_table_of_another_size_is_refused(tmp_path):
    path = tmp_path / "null_laws.npz"
    np.savez_compressed(path, **{TABULATED[0].name: np.linspace(0.1, 1.0, 10)})
    with pytest.raises(ArtifactError, match="shape"):
        read_table(TABULATED[0], path)


def test_table_is_written_whole(tmp_path, monkeypatch):
    cheap = SurmiseNull(10, 1, True)
    monkeypatch.setattr("dysonflow.statistics.null_laws.TABULATED", (cheap,))
    path = tmp_path / "null_laws.npz"
    write_table(path)
    assert np.array_equal(read_table(cheap, path), cheap.simulate())


def test_tail_goes_on_below_one_over_the_draws():
    null = np.sort(np.random.default_rng(45).exponential(size=19_999))
    distances = np.array([0.0, 1.0, 4.0, 8.0, 16.0, 1e4])
    p = np.array([tail_probability(x, null) for x in distances])
    assert p[:-1] == pytest.approx(np.exp(-distances[:-1]), rel=0.5)
    assert np.all(np.diff(p) < 0) and p[-1] > 0

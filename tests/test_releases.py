"""The table of the benchmarks over releases, and what fails its check."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks import releases
from tests.benchmarks.figure import Figure


def figure(name: str, value: float, *, floor: float | None = 1.0, unit: str = "s") -> Figure:
    return Figure(name=name, value=value, unit=unit, floor=floor, judged=value, bar=99, better="lower")


def test_a_ratio_that_is_a_fifth_worse_than_in_the_last_release_fails(tmp_path: Path) -> None:
    file = tmp_path / "releases.json"
    name = releases.KEPT[0]
    assert "no release" in releases.regressions([figure(name, 2.0)], file=file)[0]
    releases.record("0.1.0", [figure(name, 1.0), figure("not kept", 1.0)], file=file)
    releases.record("0.2.0", [figure(name, 2.0), figure("pages", 8, floor=None, unit="queries")], file=file)
    assert releases.regressions([figure(name, 2.39)], file=file) == []
    # The same seconds on a computer with another floor are another ratio.
    assert releases.regressions([figure(name, 4.0, floor=2.0)], file=file) == []
    assert releases.regressions([figure(name, 2.5)], file=file) == [f"{name}: 2.5, and 2 in 0.2.0"]
    assert releases.regressions([figure("pages", 10, floor=None, unit="queries")], file=file)
    assert "nothing was measured" in releases.regressions([figure("not kept", 9.0)], file=file)[0]


def test_a_release_is_recorded_once(tmp_path: Path) -> None:
    file = tmp_path / "releases.json"
    for value in (1.0, 3.0):
        releases.record("0.1.0", [figure(releases.KEPT[0], value)], file=file)
    assert file.read_text().count("0.1.0") == 1
    assert releases.regressions([figure(releases.KEPT[0], 3.1)], file=file) == []


def test_the_kept_table_is_there_and_has_every_kept_figure() -> None:
    assert set(releases.KEPT) <= set(releases._rows(releases.FILE)[-1]["kept"])

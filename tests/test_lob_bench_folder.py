"""Folders in LOB-Bench's layout: what is read, how often, what is said about damage, and the verb that scores them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lob_arrays import evidence, write_folder
from markets import two_days
from marsbench import cli
from marsbench.data import lob_bench_folder
from marsbench.data.errors import DataError
from marsbench.data.export import to_lobster
from marsbench.data.lobster_rows import lobster_sequence
from marsbench.stats.lob_bench import BY_KEY, QUANTITIES, LobSequence


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(evidence(np.random.default_rng(0), 4, generated=2, n=120), tmp_path / "f")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    wrote = evidence(np.random.default_rng(1), 3, generated=2, n=30)
    s = wrote.pairs[0].real
    book = s.book.copy()
    book[:5, 9, 0], book[:5, 9, 1] = np.nan, 0
    wrote = replace(wrote, pairs=(replace(wrote.pairs[0], real=replace(s, book=book)), *wrote.pairs[1:]))
    found = lob_bench_folder.read(write_folder(wrote, tmp_path))
    assert [p.day for p in found.pairs] == [p.day for p in wrote.pairs]
    for a, b in zip(found.pairs, wrote.pairs, strict=True):
        assert len(a.generated) == 2
        for x, y in zip((a.real, *a.generated), (b.real, *b.generated), strict=True):
            for name in ("time_ns", "event", "order_id", "size", "price", "direction", "book"):
                np.testing.assert_array_equal(getattr(x, name), getattr(y, name))
        assert a.conditioning is not None
        assert len(a.conditioning) == 10


def test_every_file_is_read_exactly_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[Path] = Counter()
    real = Path.read_bytes

    def counting(path: Path) -> bytes:
        opened[path] += 1
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", counting)
    assert cli.main(["score", f"files:{folder}", "--task", "lob-bench", "--json"]) == 0
    assert {opened[path] for path in folder.rglob("*.csv")} == {1}


def test_the_verb_prints_the_scores(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["score", f"files:{folder}", "--task", "lob-bench", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    keys = {s["key"]: s for s in one["scores"]}
    for q in QUANTITIES:
        for metric in ("l1", "w1"):
            assert f"lobbench.{q.key}.{metric}" in keys
    assert keys["lobbench.spread.l1"]["value"] == 0
    assert keys["lobbench.ask_volume.l1"]["n"] == 4 * 120
    assert keys["lobbench.ask_volume.l1"]["ci_high"] > keys["lobbench.ask_volume.l1"]["value"]
    assert one["notes"][0] == "4 real sequences, 8 generated ones (2 for each)"
    assert cli.main(["score", f"files:{folder}", "--task", "lob-bench"]) == 0
    assert "lobbench.summary.w1.iqm" in capsys.readouterr().out


def test_conditioning_data_may_be_missing(tmp_path: Path) -> None:
    found = lob_bench_folder.read(
        write_folder(evidence(np.random.default_rng(2), 2, n=20), tmp_path, conditioning=False)
    )
    assert [p.conditioning for p in found.pairs] == [None, None]
    assert "2 of 2 real sequences have no conditioning data" in found.notes


def test_empty_and_short_sequences_are_counted(folder: Path) -> None:
    for path in (folder / "data_gen").glob("*_real_id_0_gen_id_1.csv"):
        path.write_text("")
    for path in (folder / "data_real").glob("*_real_id_1.csv"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    found = lob_bench_folder.read(folder)
    assert "1 of 8 generated sequences are empty" in found.notes
    assert any(note.startswith("1 of 4 real sequences have up to 100") for note in found.notes)
    assert cli.main(["score", f"files:{folder}", "--task", "lob-bench"]) == 0


@pytest.mark.parametrize("floats", [False, True], ids=["whole", "with a point"])
@pytest.mark.parametrize("shift", [2**53, 2**60, 2**62])
def test_large_identifiers_stay_apart(tmp_path: Path, shift: int, floats: bool) -> None:
    """The same orders under larger numbers are the same orders, however the numbers are written."""
    small = evidence(np.random.default_rng(3), 3, n=80)
    large = [
        replace(p, real=_moved(p.real, shift), generated=tuple(_moved(s, shift) for s in p.generated))
        for p in small.pairs
    ]
    folder = write_folder(replace(small, pairs=tuple(large)), tmp_path)
    if floats:
        for path in folder.rglob("*message*.csv"):
            rows = [line.split(",") for line in path.read_text().splitlines()]
            path.write_text("".join(",".join([*row[:2], f"{row[2]}.0", *row[3:]]) + "\n" for row in rows))
    found = lob_bench_folder.read(folder)
    for a, b in zip(found.pairs, small.pairs, strict=True):
        for x, y in zip((a.real, *a.generated), (b.real, *b.generated), strict=True):
            np.testing.assert_array_equal(x.order_id - shift, y.order_id)
            np.testing.assert_array_equal(
                BY_KEY["log_time_to_cancel"].values(x), BY_KEY["log_time_to_cancel"].values(y)
            )


def _moved(s: LobSequence, shift: int) -> LobSequence:
    return replace(s, order_id=s.order_id + shift)


def one(folder: Path, text: str) -> Path:
    return next(p for p in sorted(folder.rglob("*.csv")) if text in str(p))


@pytest.mark.parametrize(
    ("file", "line", "wrong", "says"),
    [
        ("data_gen/", 3, "1,2", r"row 3: 2 columns, the first line has 6"),
        ("data_gen/", 2, "36000.5,1,x,5,100,1", r"row 2: column 3 is 'x', must be a number"),
        ("data_gen/", 2, "noon,1,1,5,100,1", r"row 2: column 1 is 'noon'"),
        ("data_gen/", 2, "36000.5,1,1,5,100.5,1", r"row 2: column 5 is '100.5', must be a whole number"),
        ("data_gen/", 2, "36000.5,1,1.5,5,100,1", r"row 2: column 3 is '1.5', must be a whole number"),
        ("data_gen/", 2, "36000.5,1,9223372036854775808,5,100,1", r"row 2: column 3 .*must lie below 2\*\*63"),
        ("data_gen/", 2, "36000.5,1,1e17,5,100,1", r"row 2: column 3 is '1e17', must be a whole number, written out"),
        ("data_gen/", 2, "-1.5,1,1,5,100,1", r"row 2: column 1 is '-1.5', must be seconds after midnight"),
        ("data_gen/", 2, "-0.5,1,1,5,100,1", r"row 2: column 1 is '-0.5', must be seconds after midnight"),
        ("data_gen/", 2, "36000.5,1,1,5", r"row 2: 4 columns"),
        ("data_real/", 4, "36000.5,1,,5,100,1", r"row 4: column 3 is ''"),
    ],
)
def test_damage_is_named_by_file_and_line(folder: Path, file: str, line: int, wrong: str, says: str) -> None:
    path = next(p for p in sorted(folder.rglob("*message*.csv")) if file in str(p))
    lines = path.read_text().splitlines()
    lines[line - 1] = wrong
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=says) as raised:
        lob_bench_folder.read(folder)
    assert path.name in str(raised.value)


def test_a_book_of_another_length_or_a_file_without_its_partner_is_an_error(folder: Path) -> None:
    path = one(folder / "data_real", "orderbook")
    text = path.read_text()
    path.write_text(text.split("\n", 1)[1])
    with pytest.raises(DataError, match=r"119 rows, its message file .* has 120"):
        lob_bench_folder.read(folder)
    path.unlink()
    with pytest.raises(ValueError, match="its orderbook file is missing"):
        lob_bench_folder.read(folder)


def test_what_belongs_to_nothing_is_counted(folder: Path) -> None:
    for path in (folder / "data_real").glob("*_real_id_0.csv"):
        path.rename(path.with_name(path.name.replace("real_id_0", "real_id_77")))
    notes = " | ".join(lob_bench_folder.read(folder).notes)
    assert "1 real sequences have no generated one" in notes
    assert "generated sequences of 1 real_ids have no real one" in notes


def test_a_folder_of_another_layout_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder data_real"):
        lob_bench_folder.read(tmp_path)
    for name in ("data_real", "data_gen"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="no files named"):
        lob_bench_folder.read(tmp_path)


def test_rows_of_a_trajectory_are_those_of_its_exported_files(tmp_path: Path) -> None:
    day = two_days(0, 20)[0]
    message, book = to_lobster(day, tmp_path)
    rows = np.loadtxt(message, delimiter=",")[1:]  # the first one shows the starting book
    cells = np.loadtxt(book, delimiter=",")[1:].reshape(len(rows), 10, 4)
    cells[np.abs(cells) == 9_999_999_999] = np.nan
    found = lobster_sequence(day)
    np.testing.assert_array_equal(np.c_[found.order_id, found.size, found.price, found.direction], rows[:, 2:])
    np.testing.assert_array_equal(found.event, np.where(rows[:, 1] == 2, 3, rows[:, 1]))
    np.testing.assert_array_equal(found.book, cells)
    assert len(lobster_sequence(day, messages=50)) == 50
    np.testing.assert_array_equal(lobster_sequence(day, messages=50).time_ns, found.time_ns[:50])

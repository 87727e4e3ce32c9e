"""FI-2010 in its layout, on files of our own making: the reader, the split, the experiment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from marsbench.data.errors import DataError
from marsbench.data.fi2010 import HORIZONS, Fi2010, read
from marsbench.generators.deeplob.fi2010 import main, split, weighted_f1


def write(path: Path, moments: int, seed: int = 0) -> np.ndarray:
    """149 rows; column i holds i in its first row, and labels that follow from i."""
    whole = np.random.default_rng(seed).standard_normal((149, moments)).round(4)
    whole[0] = np.arange(moments)
    whole[144:] = 1 + (np.arange(moments) + np.arange(5)[:, None]) % 3
    np.savetxt(path, whole, fmt="%.8e", delimiter="   ")
    return whole


def test_levels_come_by_moment_and_labels_become_classes_from_down_to_up(tmp_path: Path) -> None:
    whole = write(tmp_path / "file.txt", 12)
    found = read(tmp_path / "file.txt")
    np.testing.assert_allclose(found.levels, whole[:40].T, rtol=1e-6)
    assert found.classes.shape == (12, 5)
    assert found.classes[:3].tolist() == [[2, 1, 0, 2, 1], [1, 0, 2, 1, 0], [0, 2, 1, 0, 2]]  # 1 up, 2 flat, 3 down


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda w: w[:140], "140 rows; a file of FI-2010 has 149"),
        (lambda w: np.where(np.arange(149)[:, None] == 144, 4.0, w), r"labels must be 1, 2 or 3, found \[4.0\]"),
        (
            lambda w: np.where((np.arange(149)[:, None] == 7) & (np.arange(12) == 3), np.nan, w),
            "row 8: column 4 holds no number",
        ),
    ],
)
def test_damaged_files_are_errors(damage, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    whole = write(tmp_path / "file.txt", 12)
    np.savetxt(tmp_path / "file.txt", damage(whole))
    with pytest.raises(DataError, match=message):
        read(tmp_path / "file.txt")
    (tmp_path / "file.txt").write_text("1 2 x\n")
    with pytest.raises(DataError, match="not a matrix of numbers"):
        read(tmp_path / "file.txt")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read(tmp_path / "none.txt")


def test_windows_end_at_their_moment_and_parts_are_apart_by_a_horizon(tmp_path: Path) -> None:
    write(tmp_path / "file.txt", 1000)
    early, late = split(read(tmp_path / "file.txt"), 4, seed=0)
    taken = early.take(np.array([99, 150]))
    assert taken["windows"][:, -1, 0].tolist() == [99, 150]
    assert taken["windows"][1, :, 0].tolist() == list(range(51, 151))
    assert early.ends[-1] + HORIZONS[4] < 800 <= late.ends[0] - 99
    assert np.array_equal(early.batch(3, 8)["windows"], early.batch(3, 8)["windows"])
    short = Fi2010(early.data.levels[:200], early.data.classes[:200])
    with pytest.raises(ValueError, match="200 moments are too few"):
        split(short, 4, 0)


def test_weighted_f1_is_that_of_its_definition() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    came, told = rng.integers(0, 3, 500), rng.integers(0, 3, 500)
    matrix = np.bincount(3 * came + told, minlength=9).reshape(3, 3).astype(float)
    assert weighted_f1(matrix) == pytest.approx(f1_score(came, told, average="weighted"))


def test_the_command_trains_tests_and_prints_what_was_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    write(tmp_path / "Train_Dst_NoAuction_ZScore_CF_7.txt", 700)
    for k in (7, 8, 9):
        write(tmp_path / f"Test_Dst_NoAuction_ZScore_CF_{k}.txt", 120, seed=k)
    assert main([str(tmp_path), "--horizon", "20", "--windows", "128"]) == 0
    said = capsys.readouterr().out
    assert "FI-2010, setup 2, k = 20: weighted F1" in said
    assert "published F1 0.7282, accuracy 0.7485" in said
    assert main([str(tmp_path / "none")]) == 1
    assert "no such file" in capsys.readouterr().err

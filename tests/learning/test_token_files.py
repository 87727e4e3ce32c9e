"""Token files and the windows that training cuts out of them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marsbench.learning.token_files import TokenFiles, Windows, write_token_files
from marsbench.learning.vocabulary import START, split

ORDERS = (23, 0, 40, 6, 31)
"""Of each period; the tokens of all orders are numbered through from 0, so that each is found again."""
WIDTH = 3


def contents(
    orders: tuple[int, ...] = ORDERS, dtype: type = np.float16
) -> list[tuple[str, int, np.ndarray, np.ndarray]]:
    found: list[tuple[str, int, np.ndarray, np.ndarray]] = []
    first = 0
    for i, n in enumerate(orders):
        numbers = np.arange(first, first + n)
        features: np.ndarray = (np.arange(first, first + n + 1)[:, None] + 1000 * np.arange(WIDTH)).astype(dtype)
        found.append((f"day {i}", i % 2, split(numbers), features))
        first += n
    return found


@pytest.fixture
def files(tmp_path: Path) -> TokenFiles:
    return write_token_files(tmp_path / "tokens", contents(), identity="some")


def numbers(tokens: np.ndarray) -> np.ndarray:
    """Which order each token ``[..., 4]`` is, -1 for a start."""
    fields = tokens.astype(np.int64)
    number = fields @ np.array([16_384, 512, 16, 1])
    return np.asarray(np.where(fields[..., 0] == START, -1, number))


def period_of(number: np.ndarray) -> np.ndarray:
    return np.asarray(np.searchsorted(np.cumsum(ORDERS), number, side="right"))


def test_files_hold_each_period_after_a_row_for_its_start(files: TokenFiles) -> None:
    assert files.orders == sum(ORDERS)
    assert [(p.period, p.group, p.rows) for p in files.parts] == [
        ("day 0", 0, 24), ("day 2", 0, 41), ("day 3", 1, 7), ("day 4", 0, 32),
    ]  # fmt: skip
    expected = contents()
    for part in files.parts:
        _, _, tokens, features = expected[int(part.period[-1])]
        rows = slice(part.first, part.first + part.rows)
        assert files.tokens[part.first].tolist() == [START, 0, 0, 0]
        assert (files.tokens[rows][1:] == tokens).all()
        assert (files.features[rows][1:] == features[:-1]).all()
        assert (files.features[part.first] == features[0]).all()


@pytest.mark.parametrize("dtype", [np.float16, np.int16, np.float32])
def test_features_keep_their_type(tmp_path: Path, dtype: type) -> None:
    files = write_token_files(tmp_path, contents(dtype=dtype), identity="")
    assert files.features.dtype == dtype
    assert files.features.shape == (files.rows, WIDTH)


def test_files_are_the_same_when_opened_again_and_in_another_process(files: TokenFiles) -> None:
    for again in (TokenFiles(files.folder), pickle.loads(pickle.dumps(files))):
        assert again.identity == "some"
        assert again.parts == files.parts
        assert (again.tokens == files.tokens).all()


def test_writing_again_replaces_what_was_there(files: TokenFiles) -> None:
    again = write_token_files(files.folder, contents((5,)), identity="other")
    assert (again.identity, again.orders) == ("other", 5)
    assert TokenFiles(files.folder).orders == 5


def test_windows_never_reach_across_periods_and_their_rows_follow_each_other(files: TokenFiles) -> None:
    windows = Windows(files, length=5, seed=1)
    for step in range(40):
        batch = windows.batch(step, 4)
        assert batch["tokens"].shape == (4, 6, 4)
        found = numbers(batch["tokens"])
        assert (found[:, 1:] >= 0).all()  # a start is never a target
        assert (np.diff(found[:, 1:]) == 1).all()
        assert ((found[:, 0] == found[:, 1] - 1) | (found[:, 0] == -1)).all()
        assert (period_of(found[:, 1]) == period_of(found[:, -1])).all()
        assert ((found[:, 0] != -1) == (period_of(found[:, 0]) == period_of(found[:, 1]))).all()
        assert (batch["features"][:, 1:, 0] == found[:, 1:]).all()
        assert (batch["group"] == period_of(found[:, 1]) % 2).all()


def test_an_epoch_asks_for_each_order_once_but_for_those_that_no_window_fits(files: TokenFiles) -> None:
    length = 5
    windows = Windows(files, length=length, seed=2)
    assert windows.per_epoch == sum(n // length for n in ORDERS)
    for epoch in range(5):
        steps = range(epoch * windows.per_epoch, (epoch + 1) * windows.per_epoch)
        targets = np.concatenate([numbers(windows.batch(step, 1)["tokens"])[0, 1:] for step in steps])
        assert len(np.unique(targets)) == len(targets)
        for period, orders in enumerate(ORDERS):
            assert (period_of(targets) == period).sum() == orders - orders % length


def test_epochs_are_cut_at_other_places_and_come_in_another_order(files: TokenFiles) -> None:
    windows = Windows(files, length=5, seed=3)
    size = windows.per_epoch
    first, second = (numbers(windows.batch(step, size)["tokens"])[:, 1] for step in (0, 1))
    assert set(first.tolist()) != set(second.tolist())
    assert (np.diff(first) < 0).any()


def test_over_many_epochs_every_order_is_asked_for(files: TokenFiles) -> None:
    windows = Windows(files, length=5, seed=4)
    seen = np.unique(numbers(windows.batch(0, 30 * windows.per_epoch)["tokens"])[:, 1:])
    assert seen.tolist() == list(range(sum(ORDERS)))


def test_a_batch_is_a_function_of_its_number_alone(files: TokenFiles) -> None:
    windows, other = Windows(files, 5, seed=5), Windows(TokenFiles(files.folder), 5, seed=5)
    late = windows.batch(17, 3)
    for step in range(20):
        other.batch(step, 3)
    for name, values in other.batch(17, 3).items():
        assert (values == late[name]).all()
    assert not (Windows(files, 5, seed=6).batch(17, 3)["tokens"] == late["tokens"]).all()


def test_batches_of_any_size_are_the_same_windows_one_after_the_other(files: TokenFiles) -> None:
    windows = Windows(files, 5, seed=7)
    small = np.concatenate([windows.batch(step, 3)["tokens"] for step in range(20)])
    large = np.concatenate([windows.batch(step, 30)["tokens"] for step in range(2)])  # across the end of an epoch
    assert (small == large).all()


def test_every_gives_windows_spread_evenly_over_all_periods(files: TokenFiles) -> None:
    windows = Windows(files, 5, seed=8)
    batches = windows.every(1000, 4)
    first = np.concatenate([numbers(batch["tokens"])[:, 1] for batch in batches])
    assert len(first) == windows.per_epoch
    assert (np.diff(first) > 0).all()
    assert [len(batch["group"]) for batch in batches] == [4, 4, 4, 4, 3]
    few = np.concatenate([numbers(batch["tokens"])[:, 1] for batch in windows.every(3, 4)])
    assert few.tolist() == [first[0], first[len(first) // 2], first[-1]]


def test_a_description_tells_what_resuming_must_find_unchanged(files: TokenFiles) -> None:
    described = Windows(files, 5, seed=9).describe()
    assert described == {"data": "some", "length": 5, "seed": 9, "windows": 19}


def test_a_window_as_long_as_the_longest_period_fits_and_a_longer_one_is_an_error(files: TokenFiles) -> None:
    assert Windows(files, max(ORDERS), seed=0).per_epoch == 1
    with pytest.raises(ValueError, match="no period holds 41 orders"):
        Windows(files, max(ORDERS) + 1, seed=0)


def test_an_unfinished_folder_is_an_error_that_says_so(files: TokenFiles) -> None:
    (files.folder / "index.json").unlink()
    with pytest.raises(FileNotFoundError, match="not finished, make them again"):
        TokenFiles(files.folder)


def test_interrupted_writing_leaves_an_unfinished_folder_whatever_was_there_before(files: TokenFiles) -> None:
    def interrupted() -> Iterator[Any]:
        yield contents()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_token_files(files.folder, interrupted(), identity="new")
    with pytest.raises(FileNotFoundError, match="not finished"):
        TokenFiles(files.folder)


@pytest.mark.parametrize("name", ["tokens.bin", "features.bin"])
def test_a_file_that_is_too_short_or_missing_is_an_error_that_names_it(files: TokenFiles, name: str) -> None:
    path = files.folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{name} has \d+ bytes, expected \d+; make it again"):
        TokenFiles(files.folder)
    path.unlink()
    with pytest.raises(ValueError, match=rf"{name} has 0 bytes, expected \d+; make it again"):
        TokenFiles(files.folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', '{"format": 1, "identity": "", "parts": [{}]}'])
def test_a_damaged_index_is_an_error_that_names_it(files: TokenFiles, text: str) -> None:
    (files.folder / "index.json").write_text(text)
    with pytest.raises(ValueError, match=r"index\.json: damaged .*make the token files again"):
        TokenFiles(files.folder)


def test_an_index_of_another_format_is_an_error(files: TokenFiles) -> None:
    path = files.folder / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(ValueError, match="format 2, this version reads 1"):
        TokenFiles(files.folder)


def test_periods_without_any_order_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no period holds an order"):
        write_token_files(tmp_path, contents((0, 0)), identity="")


def test_features_of_another_width_or_type_and_too_few_of_them_are_errors(tmp_path: Path) -> None:
    first, second = contents((4, 5))
    for features in (second[3][:, :2], second[3].astype(np.float32)):
        with pytest.raises(ValueError, match=r"day 1: features are .*, those before were"):
            write_token_files(tmp_path, [first, (*second[:3], features)], identity="")
    with pytest.raises(ValueError, match="day 1: 3 rows of features for 5 orders"):
        write_token_files(tmp_path, [first, (*second[:3], second[3][:3])], identity="")

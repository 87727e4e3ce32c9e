"""Axes of many things beside each other."""

from __future__ import annotations

import pytest

from marsbench.drawing import tiles


@pytest.mark.parametrize(("count", "rows", "across"), [(1, 2, 1), (4, 2, 4), (6, 4, 4)])
def test_kinds_of_one_thing_stand_above_each_other_and_nothing_is_left_empty(
    count: int, rows: int, across: int
) -> None:
    made, (above, below) = tiles(count, 2, width=3.0, height=2.0)
    assert made.get_size_inches().tolist() == [3.0 * across, 2.0 * rows]
    assert len(made.axes) == 2 * count
    spots = [[ax.get_subplotspec() for ax in own] for own in (above, below)]
    for k, (high, low) in enumerate(zip(*spots, strict=True)):
        assert (high.rowspan.start, high.colspan.start) == (k // across * 2, k % across)
        assert (low.rowspan.start, low.colspan.start) == (k // across * 2 + 1, k % across)

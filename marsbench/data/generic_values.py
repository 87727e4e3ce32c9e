"""Exact numbers and times from text, whatever type a column has: the small parts of ``generic_table``."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data.errors import DataError
from marsbench.data.generic_mapping import FORMATS, Mapping

NANOSECONDS = 9
DAY_NS = 86_400 * 10**NANOSECONDS
Error = Callable[[int, str], DataError]
"""Makes the error for the row at a position of the column."""


def fraction(word: str) -> Fraction | None:
    """The exact value of a decimal number; None if it is not one."""
    return Fraction(word) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", word) else None


def text(column: Any) -> Any:
    """Any column as text; floats as the shortest decimal that gives them back."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


def times(column: Any, mapping: Mapping, error: Error) -> NDArray[np.int64]:
    """Nanoseconds since local midnight of the date."""
    import pandas as pd
    import pyarrow as pa

    if column.null_count:
        raise error(int(np.flatnonzero(np.asarray(column.is_null()))[0]), "there is no time")
    if mapping.time_format == "iso":
        stamps = _iso(column, mapping, error)
    else:
        count = _counts(column, mapping, error)
        if not mapping.epoch:
            return _within_day(column, mapping, error, count)
        stamps = pd.DatetimeIndex(count.astype("datetime64[ns]"), tz="UTC")
    if stamps.tz is not None:
        if not mapping.zone:
            raise error(0, f"time {pa.array(column)[0].as_py()!r} names a zone; give the exchange's as time.zone")
        stamps = stamps.tz_convert(mapping.zone).tz_localize(None)
    local = stamps.as_unit("ns").to_numpy().astype(np.int64)
    midnight = int(np.datetime64(mapping.date, "ns").astype(np.int64))
    return _within_day(column, mapping, error, local - midnight)


def _within_day(column: Any, mapping: Mapping, error: Error, time: NDArray[np.int64]) -> NDArray[np.int64]:
    bad = np.flatnonzero((time < 0) | (time >= DAY_NS))
    if len(bad):
        at = int(bad[0])
        given = column[at].as_py()
        day = datetime.date.fromisoformat(mapping.date) + datetime.timedelta(days=int(time[at] // DAY_NS))
        raise error(
            at, f"time {given!r} lies on {day}, but {mapping.file} says {mapping.date} "
            "(mixed days, another time.format or time.since?)",
        )  # fmt: skip
    return time


def _counts(column: Any, mapping: Mapping, error: Error) -> NDArray[np.int64]:
    """Numbers of seconds, milliseconds ... in nanoseconds, exactly."""
    import pyarrow as pa

    zeros = FORMATS[mapping.time_format]
    if pa.types.is_integer(column.type):
        counts = np.asarray(column).astype(np.int64)
        _not_too_large(np.abs(counts) < 2**62 // 10**zeros, error)
        return np.asarray(counts * 10**zeros)
    words = text(column)
    try:
        return _lower_half(words.cast(pa.decimal128(38, zeros)), error)
    except pa.ArrowInvalid:
        pass  # say which row it is
    for at, word in enumerate(words.to_pylist()):
        value = fraction(word)
        if value is None or (value * 10**zeros).denominator != 1:
            reason = "is no number" if value is None else "is finer than a nanosecond"
            raise error(at, f"time {word!r} {reason} (time.format is {mapping.time_format})")
    raise error(0, f"times such as {words[0].as_py()!r} cannot be read as numbers")


def _not_too_large(ok: NDArray[np.bool_], error: Error) -> None:
    bad = np.flatnonzero(~ok)
    if len(bad):
        raise error(int(bad[0]), "the time is too large (another time.format?)")


def _iso(column: Any, mapping: Mapping, error: Error) -> Any:
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        return pd.DatetimeIndex(column.to_pandas())
    words = text(column)
    first = words[0].as_py()
    if re.match(r"\d\d:", first):
        words = pa.array([f"{mapping.date}T{w}" for w in words.to_pylist()])
    zoned = re.search(r"(Z|[+-]\d\d(:?\d\d)?)$", first[10:]) is not None
    kind = pa.timestamp("ns", tz="UTC" if zoned else None)
    try:
        return pd.DatetimeIndex(words.cast(kind).to_pandas())
    except pa.ArrowInvalid:
        at = next(k for k in range(len(words)) if not _casts(words.slice(k, 1), kind))
        raise error(
            at,
            f"time {column[at].as_py()!r} is not like the first one, {first!r}: "
            "YYYY-MM-DDTHH:MM:SS.fffffffff, with or without a zone, or HH:MM:SS.fffffffff",
        ) from None


def _casts(one: Any, kind: Any) -> bool:
    import pyarrow as pa

    try:
        one.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _lower_half(column: Any, error: Error) -> NDArray[np.int64]:
    """128-bit decimals in units of their last digit, as int64."""
    halves = np.frombuffer(column.buffers()[1], "<i8").reshape(-1, 2)[column.offset : column.offset + len(column)]
    _not_too_large(halves[:, 1] == halves[:, 0] >> 63, error)
    return np.ascontiguousarray(halves[:, 0])

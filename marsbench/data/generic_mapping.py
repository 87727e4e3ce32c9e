"""The YAML file that says how a table of order events is to be read: its keys, checked, as one frozen value.

Every scalar is read as the text that stands there, so that 0.10 stays 0.10, 16:00 a time of day and
``no`` a word. The schema is written out in docs/sources/generic.md.
"""

from __future__ import annotations

import datetime
import difflib
import re
import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from marsbench.data.errors import DataError
from marsbench.market.rules import PRESETS, MatchingRules, Phase, PhaseKind, clock

ACTIONS = ("new", "cancel", "modify", "execute", "trade", "clear", "ignore")
COLUMNS = ("time", "action", "id", "side", "price", "size", "new_id", "symbol")
FORMATS = {"ns": 0, "us": 3, "ms": 6, "s": 9, "iso": 0}
"""How times are written, and the zeros from their unit to nanoseconds."""
_KEYS = {
    "": (
        "instrument", "date", "files", "format", "delimiter", "header", "columns", "actions", "sides", "time", "price",
        "size", "cancel_size", "symbol", "rules", "sessions", "tick_size", "lot_shares", "reference_price",
    ),
    "columns": COLUMNS, "actions": ACTIONS, "sides": ("bid", "ask"),
    "time": ("format", "since", "zone"), "price": ("unit",), "size": ("unit",),
}  # fmt: skip


@dataclass(frozen=True)
class Mapping:
    """How one file is to be read."""

    file: str
    """Name of the YAML file, for errors."""
    instrument: str
    date: str
    files: tuple[Path, ...]
    format: str
    """``csv`` or ``parquet``."""
    delimiter: str
    header: tuple[str, ...] | None
    """Column names of a CSV file without header."""
    columns: dict[str, str]
    """Our name: theirs."""
    actions: dict[str, str]
    """Their value: ours."""
    sides: dict[str, str]
    """Their value: ``bid`` or ``ask``."""
    time_format: str
    epoch: bool
    """Whether times count from 1970, not from midnight."""
    zone: str
    price_unit: Decimal
    size_unit: Decimal
    cancel_all: bool
    """Whether a cancel takes the whole order, whatever its size says."""
    symbol: str
    """Rows of other symbols are left out; empty without a symbol column."""
    rules: MatchingRules
    reference_ticks: int
    """Previous close, for price limits; 0 without."""

    def allowed(self, action: str) -> str:
        """Their values of a kind of action, for messages."""
        return ", ".join(value for value, ours in self.actions.items() if ours == action)


def read_mapping(path: Path) -> Mapping:
    """The mapping in a YAML file.

    Raises
    ------
    DataError
        If it cannot be read, is no YAML, or a key or value is not one that there is.
    """
    return _Reader(path).mapping()


class _Loader(yaml.BaseLoader):
    """Scalars stay text; a key that stands twice is an error."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


class _Reader:
    """Takes the keys of one file apart; ``where`` is a dotted key for messages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # texts, lists and dicts only
        except OSError as error:
            raise DataError(path.name, f"cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise DataError(path.name, f"not UTF-8 text ({error.reason})") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            reason = getattr(error, "problem", None) or str(error)
            raise DataError(path.name, f"not YAML: {reason}", row=mark.line + 1 if mark else None) from error
        if not isinstance(content, dict):
            raise self.error("must hold keys and values, such as 'instrument: ACME'")
        self.top: dict[str, Any] = content
        self.check_keys("", content)

    def error(self, reason: str) -> DataError:
        return DataError(self.path.name, reason)

    def check_keys(self, where: str, values: Iterable[str]) -> None:
        known = _KEYS[where]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}? " if near else ""
                place = f" in {where}" if where else ""
                raise self.error(f"unknown key {key!r}{place}; {hint}There are: {', '.join(known)}")

    def table(self, name: str, *, needed: Iterable[str] = ()) -> dict[str, Any]:
        """A nested mapping; ``needed`` keys must be there."""
        values = self.top.get(name, {})
        if not isinstance(values, dict):
            raise self.error(f"{name}: must hold keys and values, got {values!r}")
        self.check_keys(name, values)
        missing = [key for key in needed if key not in values]
        if missing:
            raise self.error(f"{name}: lacks {', '.join(missing)}")
        return values

    def text(self, name: str, default: str | None = None, *, choices: Iterable[str] = ()) -> str:
        """A word at the top or (``time.zone``) in a nested mapping."""
        where, _, key = name.rpartition(".")
        value = (self.table(where) if where else self.top).get(key, default)
        if value is None:
            raise self.error(f"the key {name!r} is missing")
        if not isinstance(value, str) or not value:
            raise self.error(f"{name}: must be one word, got {value!r}")
        if choices and value not in choices:
            raise self.error(f"{name}: must be one of {', '.join(choices)}, got {value!r}")
        return value

    def number(self, name: str, default: str) -> Decimal:
        text = self.text(name, default)
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = Decimal("NaN")
        if not (value.is_finite() and value > 0):
            raise self.error(f"{name}: must be a positive number, got {text!r}")
        return value

    def values(self, name: str, table: dict[str, Any]) -> dict[str, str]:
        """From their values to ours, of ``{ours: theirs or [theirs, ...]}``."""
        out: dict[str, str] = {}
        for ours, theirs in table.items():
            for value in theirs if isinstance(theirs, list) else [theirs]:
                if not isinstance(value, str):
                    raise self.error(f"{name}.{ours}: must be a value or a list of values, got {theirs!r}")
                if value in out:
                    raise self.error(f"{name}: {value!r} stands for both {out[value]} and {ours}")
                out[value] = ours
        return out

    def mapping(self) -> Mapping:
        columns = self.table("columns", needed=("time", "action", "id", "side", "price", "size"))
        if any(not isinstance(column, str) for column in columns.values()):
            raise self.error(f"columns: each must name one column, got {columns}")
        if ("symbol" in columns) != ("symbol" in self.top):
            raise self.error("'symbol' and 'columns.symbol' belong together: which rows to take, and where it stands")
        time_format = self.text("time.format", choices=FORMATS)
        epoch = self.text("time.since", "midnight", choices=("midnight", "epoch")) == "epoch"
        files, rules = self.files(), self.rules()
        header = self.top.get("header")
        if header is not None and not (isinstance(header, list) and all(isinstance(n, str) for n in header)):
            raise self.error(f"header: must list the column names of a file that has none, got {header!r}")
        return Mapping(
            file=self.path.name,
            instrument=self.text("instrument"),
            date=self.date(),
            files=files,
            format=self.format(files),
            delimiter=self.delimiter(),
            header=None if header is None else tuple(header),
            columns=columns,
            actions=self.values("actions", self.table("actions", needed=("new",))),
            sides=self.values("sides", self.table("sides", needed=("bid", "ask"))),
            time_format=time_format,
            epoch=epoch,
            zone=self.zone(needed=epoch),
            price_unit=self.number("price.unit", "1"),
            size_unit=self.number("size.unit", "1"),
            cancel_all=self.text("cancel_size", "removed", choices=("removed", "all")) == "all",
            symbol=self.text("symbol", "-") if "symbol" in self.top else "",
            rules=rules,
            reference_ticks=self.reference(rules),
        )

    def date(self) -> str:
        text = self.text("date")
        try:
            return datetime.date.fromisoformat(text).isoformat()
        except ValueError:
            raise self.error(f"date: must be YYYY-MM-DD, got {text!r}") from None

    def zone(self, *, needed: bool) -> str:
        if needed and "zone" not in self.table("time"):
            raise self.error("time.zone: times since 1970 need the exchange's time zone, such as America/New_York")
        name = self.text("time.zone", "-")
        if name == "-":
            return ""
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise self.error(f"time.zone: {name!r} is no time zone; write one such as America/New_York") from None
        return name

    def files(self) -> tuple[Path, ...]:
        given = self.top.get("files")
        names = [given] if isinstance(given, str) else given
        if not (isinstance(names, list) and names and all(isinstance(n, str) and n for n in names)):
            raise self.error(f"files: must name the file of events (or a list of them, in order), got {given!r}")
        return tuple(self.path.parent / name for name in names)

    def format(self, files: tuple[Path, ...]) -> str:
        guess = "parquet" if files[0].suffix == ".parquet" else "csv"
        return self.text("format", guess, choices=("csv", "parquet"))

    def delimiter(self) -> str:
        text = {"tab": "\t"}.get(str(self.top.get("delimiter")), self.top.get("delimiter", ","))
        if not isinstance(text, str) or len(text) != 1:
            raise self.error(f"delimiter: must be one character (or tab), got {text!r}")
        return text

    def reference(self, rules: MatchingRules) -> int:
        if "reference_price" not in self.top:
            return 0
        price, tick = Fraction(self.number("reference_price", "")), Fraction(rules.tick_size)
        if (price / tick).denominator != 1:
            raise self.error(f"reference_price: must be a multiple of the tick {rules.tick_size}, got {float(price):g}")
        return (price / tick).numerator

    def rules(self) -> MatchingRules:
        """The rules of continuous trading: a preset's, or sessions; with the tick and lot that the file gives."""
        if "rules" in self.top:
            rules = PRESETS[self.text("rules", choices=sorted(PRESETS))].without_auctions()
        elif "sessions" not in self.top or "tick_size" not in self.top:
            raise self.error(f"give 'rules' (one of {', '.join(sorted(PRESETS))}), or 'sessions' and 'tick_size'")
        else:
            rules = replace(PRESETS["CONTINUOUS"], name="CUSTOM")
        if "sessions" in self.top:
            rules = replace(rules, phases=self.sessions(), name="CUSTOM")
        lot = self.text("lot_shares", str(rules.lot_shares))
        if not re.fullmatch(r"[1-9]\d*", lot):
            raise self.error(f"lot_shares: must be a whole number of shares, got {lot!r}")
        tick = self.number("tick_size", rules.tick_size)
        if (tick, int(lot)) != (Decimal(rules.tick_size), rules.lot_shares):
            rules = replace(rules, name="CUSTOM", tick_size=f"{tick:f}", lot_shares=int(lot))
        return rules

    def sessions(self) -> tuple[Phase, ...]:
        given = self.top["sessions"]
        pairs = given if isinstance(given, list) else []
        if not pairs or not all(isinstance(p, list) and [type(t) for t in p] == [str, str] for p in pairs):
            raise self.error(f"sessions: must be like [[09:30, 11:30], [13:00, 15:00]], got {given!r}")
        try:
            phases = tuple(Phase(clock(a), clock(b), PhaseKind.CONTINUOUS) for a, b in pairs)
            replace(PRESETS["CONTINUOUS"], phases=phases)
        except ValueError as error:
            raise self.error(f"sessions: {error}") from None
        return phases

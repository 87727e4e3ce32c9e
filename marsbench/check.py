"""``marsbench check``: how often the verdicts of a metric, or the intervals of the library, are right."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from marsbench import __version__, progress, registry
from marsbench.files import markdown_table, set_aside, write_atomic
from marsbench.known_answers import (
    COVERAGE,
    COVERED,
    ENOUGH_POWER,
    MOST_ERRORS,
    NOT_PRESENT,
    SEEDS,
    KnownAnswer,
    Rates,
    measure,
)

INTERVALS = "intervals"


@dataclass(frozen=True)
class Checked:
    """What one check has measured."""

    subject: str
    """Name of the metric, or ``intervals``."""
    version: int | None
    """Of the metric."""
    seeds: int
    rates: tuple[Rates, ...]
    commands: Mapping[str, str]
    """What made the rates of a process."""
    versions: Mapping[str, int | None]
    """Version of the metric that a process was judged by; an earlier one where another part has changed since."""

    @property
    def trusted(self) -> bool:
        """Whether every error rate and every coverage is as it should be."""
        return all(rate.trusted for rate in self.rates)

    def to_dict(self) -> dict[str, Any]:
        return {
            "subject": self.subject,
            "version": self.version,
            "marsbench": __version__,
            "seeds": self.seeds,
            "commands": dict(self.commands),
            "versions": dict(self.versions),
            "trusted": self.trusted,
            "rates": [rate.to_dict() for rate in self.rates],
        }


def check(
    subject: str,
    *,
    seeds: int = SEEDS,
    processes: Sequence[str] | None = None,
    jobs: int = 1,
    command: str = "",
) -> Checked:
    """Draw the processes of a metric, or of ``intervals``, and count what was right.

    Parameters
    ----------
    processes
        Only those whose names begin with one of these.

    Raises
    ------
    ValueError
        For an unknown metric or process, a metric without known answers, or seeds or jobs below 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs {jobs}: write at least 1 process")
    known, version = _known(subject)
    if processes is not None:
        for name in processes:
            if not name.strip():
                raise ValueError(f"{subject}: an empty name of a process; write one, or the first letters of several")
            if not any(k.process.startswith(name) for k in known):
                raise ValueError(f"{subject}: {registry.nearest(name, [k.process for k in known], what='process')}")
        known = [k for k in known if k.process.startswith(tuple(processes))]
    rates = tuple(measure(known, seeds, jobs=jobs))
    names = [k.process for k in known]
    return Checked(subject, version, seeds, rates, dict.fromkeys(names, command), dict.fromkeys(names, version))


def require_alike(folder: str | Path, subject: str, seeds: int, processes: Sequence[str] | None) -> None:
    """Raise where some processes of a check cannot be put among the rows of a folder; damaged rows are set aside.

    Raises
    ------
    ValueError
        If rows there come from another number of draws.
    """
    _known(subject)
    try:
        kept = _read(folder, subject)
    except ValueError as error:
        kept = None
        progress.say(f"{error}; it is kept as {set_aside(_base(folder, subject).with_suffix('.json'))}")
    if processes is not None and kept is not None and kept.seeds != seeds:
        raise ValueError(
            f"{_base(folder, subject)}.json has {kept.seeds:,} draws of each process: {', '.join(processes)} with "
            f"{seeds:,} draws would not belong there. Write to another folder, or check all processes"
        )


def merged(found: Checked, folder: str | Path) -> Checked:
    """``found`` beside the rows of other processes that a folder has from an earlier check (``require_alike``)."""
    known, _ = _known(found.subject)
    kept = _read(folder, found.subject)
    if kept is None or {k.process for k in known} <= set(found.commands):
        return found
    rows = {first.process: rates for one in (kept, found) for first, rates in _by_process(one)}
    commands, versions = {**kept.commands, **found.commands}, {**kept.versions, **found.versions}
    order = [k.process for k in known if k.process in rows]
    rates = tuple(rate for process in order for rate in rows[process])
    return replace(
        found, rates=rates, commands={p: commands[p] for p in order}, versions={p: versions[p] for p in order}
    )


def _base(folder: str | Path, subject: str) -> Path:
    return Path(folder) / f"check-{subject}"


def _read(folder: str | Path, subject: str) -> Checked | None:
    """What an earlier check has written there; None where there is nothing.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    path = _base(folder, subject).with_suffix(".json")
    if not path.exists():
        return None
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        rates = tuple(Rates(**row) for row in kept["rates"])
        head = (kept["subject"], kept["version"], kept["seeds"])
        return Checked(*head, rates, kept["commands"], kept["versions"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({error!r})") from error


def _known(subject: str) -> tuple[list[KnownAnswer], int | None]:
    if subject == INTERVALS:
        from marsbench.known_intervals import known_intervals

        return known_intervals(), None
    metric = registry.lookup("metrics", subject)
    known = list(metric.known_answers())
    if not known:
        able = [n for n in registry.names("metrics") if registry.lookup("metrics", n).known_answers()]
        raise ValueError(
            f"{subject} makes no claim whose truth could be known; check one of {', '.join([*able, INTERVALS])}"
        )
    return known, int(metric.version)


_HEADS = ("property", "truth", "right", "wrong", "at most", "says nothing", "trusted", "units", "needed")


def _cells(rate: Rates) -> tuple[str, ...]:
    claimed = rate.truth not in (COVERED, NOT_PRESENT) and rate.right < ENOUGH_POWER
    needed = f"{rate.units_needed:,}" if rate.units_needed is not None else "on the edge" if claimed else ""
    return (
        rate.property, rate.truth, f"{rate.right:.1%}", f"{rate.wrong:.1%}", f"{rate.wrong_high:.1%}",
        f"{rate.open:.1%}", "yes" if rate.trusted else "NO", f"{rate.units:,}", needed,
    )  # fmt: skip


def _by_process(found: Checked) -> list[tuple[Rates, list[Rates]]]:
    groups = [list(rows) for _, rows in groupby(found.rates, key=lambda rate: rate.process)]
    return [(rows[0], rows) for rows in groups]


def _verdict(found: Checked) -> str:
    bad = sum(not rate.trusted for rate in found.rates)
    if not bad:
        return f"All {len(found.rates)} rates are as they should be."
    return f"{bad} of {len(found.rates)} rates are NOT as they should be."


def _rule(found: Checked) -> str:
    low, high = COVERAGE
    words = []
    if any(rate.truth != COVERED for rate in found.rates):
        words.append(
            f"A verdict is trusted where the upper end of the one-sided 95% interval of its error rate (at most) is "
            f"{MOST_ERRORS:.0%} or less. Right is the power, counted before Holm's correction; needed is how many "
            "units (days, windows) 90% power would take where it is lower: until then the verdict is inconclusive. "
            "On the edge: the truth is so near the criterion that draws lie on either side, whatever their number."
        )
    if any(rate.truth == COVERED for rate in found.rates):
        words.append(
            f"A nominal 95% interval is trusted where it covers the true value {low:.0%} to {high:.0%} of the time."
        )
    return " ".join(words)


def to_text(found: Checked) -> str:
    """Aligned tables, one for each process."""
    blocks = []
    for first, rows in _by_process(found):
        lines = [_HEADS, *map(_cells, rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(_HEADS))]
        body = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
        blocks.append("\n".join([f"{first.process}: {first.about}; {first.size}", *(f"  {line}" for line in body)]))
    return "\n\n".join([*blocks, f"{_rule(found)}\n{_verdict(found)} {found.seeds:,} draws of each process."]) + "\n"


def to_markdown(found: Checked) -> str:
    """The page that is kept under ``results``."""
    of = found.subject if found.version is None else f"{found.subject}, version {found.version}"
    lines = [f"# Known answers: {of}", "", f"{_verdict(found)} {found.seeds:,} draws of each process.", ""]
    lines += [_rule(found), "", *_made_by(found)]
    heads = ("process", *_HEADS)
    lines += [markdown_table(heads, ((rate.process, *_cells(rate)) for _, rows in _by_process(found) for rate in rows))]
    lines += ["", "## Processes", ""]
    lines += [f"- `{first.process}`: {first.about}; {first.size}." for first, _ in _by_process(found)]
    return "\n".join(lines) + "\n"


def _made_by(found: Checked) -> list[str]:
    commands = list(dict.fromkeys(command for command in found.commands.values() if command))
    if not commands:
        return []
    if len(commands) == 1:
        return [f"Made by `{commands[0]}`.", ""]
    of = {c: ", ".join(f"`{p}`" for p, made in found.commands.items() if made == c) for c in commands}
    longest = max(commands, key=lambda c: len(of[c]))
    said = {c: f"`{c}`{_earlier(found, c)}" for c in commands}
    others = [f"- {said[c]}: {of[c]}" for c in commands if c != longest]
    return [f"Made by {said[longest]}, and in part by", "", *others, ""]


def _earlier(found: Checked, command: str) -> str:
    versions = {found.versions[p] for p, made in found.commands.items() if made == command} - {found.version}
    return f" (version {', '.join(map(str, sorted(filter(None, versions))))} of the metric)" if versions else ""


def write(found: Checked, folder: str | Path) -> list[Path]:
    """Write ``check-<subject>.md`` and ``.json`` into a folder; returns their paths."""
    base = _base(folder, found.subject)
    made: tuple[tuple[str, Callable[[Checked], str]], ...] = (
        (".md", to_markdown),
        (".json", lambda c: json.dumps(c.to_dict(), indent=1, ensure_ascii=False) + "\n"),
    )
    return [write_atomic(base.with_name(base.name + suffix), text(found)) for suffix, text in made]

"""The leaderboard as one self-contained HTML page: no request leaves it, everything is inside."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import marsbench
from marsbench import figures
from marsbench.files import file_safe
from marsbench.leaderboard import CONTROLS, JOINT, NO_INTERVAL, SHARED, WITHIN_DAY, Leaderboard, Row
from marsbench.leaderboard_text import all_keys, any_score, number, ranked_by
from marsbench.ranking import GROUPS, counts
from marsbench.results import Result
from marsbench.scores import Score

LOW, HIGH = -0.25, 1.15
"""Ends of the scale on which normalised values are drawn; what lies outside is drawn at the end and marked."""

LISTED = 6
"""So many periods are printed."""

GROUP_WORDS = {
    "facts": "stylized facts",
    "distributions": "distributions",
    "conditional": "conditional",
    "response": "response",
    "prediction": "prediction",
    "impact": "market impact",
    "validity": "validity",
    "cost": "cost",
}


def position(value: float) -> float:
    """Where a normalised value lies on the scale, in percent from the left."""
    return round(100 * (min(max(value, LOW), HIGH) - LOW) / (HIGH - LOW), 2)


def to_html(board: Leaderboard, *, cache: Path | None = None, draw: bool = True) -> str:
    """The page of one board.

    Parameters
    ----------
    cache
        Folder in which drawn figures are kept.
    draw
        Whether to draw figures at all.
    """
    rows = [_row(board, row) for row in board.rows]
    gallery = _gallery(board, cache) if draw else []
    results = [result for row in board.rows for result in row.results]
    starts = {result.task["label"]: result.task["starts"] for result in results}
    return str(
        _template().render(
            board=board,
            starts=[starts[task] for task in board.tasks if task in starts],
            finished=max(result.finished for result in results)[:10],
            rows=rows,
            groups=[{"key": g, "word": GROUP_WORDS[g]} for g in board.groups],
            matrix=_matrix(board),
            gallery=gallery,
            provenance=_provenance(board),
            within_day=WITHIN_DAY,
            beneath=[ranked_by(board)]
            + [note for note in board.notes if note in (JOINT, SHARED, NO_INTERVAL, CONTROLS)],
            counted=[GROUP_WORDS[g] for g in board.counted],
            floor_at=position(0.0),
            ceiling_at=position(1.0),
            version=marsbench.__version__,
            results=len(results),
        )
    )


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(short=short, at=position, rate=rate, breakable=breakable)
    return environment.from_string(files("marsbench").joinpath("leaderboard.html").read_text())


def short(value: Any, digits: int = 4) -> str:
    """A number as a reader wants it; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:.{digits}g}".replace("-", "−")  # a true minus sign
    return str(value)


def breakable(key: str) -> Any:
    """A score key that may be broken after its dots and underscores."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(key))))  # escaped first: only our own tag is markup


def rate(value: float | None) -> str:
    """Orders per second."""
    if value is None:
        return "–"
    return f"{value / 1e6:.1f} M" if value >= 1e6 else f"{value / 1e3:.1f} k" if value >= 1e4 else f"{value:,.0f}"


def _cell(value: float | str | None, interval: tuple[float, float] | None = None) -> dict[str, Any]:
    """A cell of the ranking: a bar, or the word that stands in its place."""
    if not isinstance(value, float):
        return {"value": None, "word": value or "missing", "text": value or "missing"}
    zero, at = position(0.0), position(value)
    return {
        "value": value,
        "text": number(value).replace("-", "−"),
        "left": min(zero, at),
        "width": round(abs(at - zero), 2),
        "negative": value < -0.0005,  # what is printed as zero is not drawn as a failure
        "off": value < LOW or value > HIGH,
        "interval": f"[{number(interval[0])}, {number(interval[1])}]".replace("-", "−") if interval else None,
    }


def _row(board: Leaderboard, row: Row) -> dict[str, Any]:
    generator = row.head.generator
    groups = [
        {
            "key": group,
            "word": GROUP_WORDS[group],
            "cell": _cell(row.groups.get(group), row.group_intervals.get(group)),
            "dots": [
                _dot(s) for s in row.scores.values() if s.group == group and counts(s) and s.normalised is not None
            ],
        }
        for group in board.groups
    ]
    return {
        "label": row.label,
        "id": f"g-{file_safe(row.label)}",
        "rank": row.rank,
        "place": board.place(row).replace("-", "–"),
        "placed": row.placed,
        "better_than": row.better_than,
        "counted": [{"word": GROUP_WORDS[g], "above": row.above_floor(g)} for g in board.counted],
        "checks": row.checks,
        "unranked": row.unranked,
        "generator": generator,
        "overall": _cell(row.overall, row.interval)
        if row.placed
        else {"value": None, "word": "unranked", "text": "unranked"},
        "groups": groups,
        "below": row.below_floor,
        "rate": row.orders_per_s,
        "sections": _sections(board, row),
        "results": [_result(r) for r in row.results],
    }


def _dot(score: Score) -> dict[str, Any]:
    assert score.normalised is not None
    return {"at": position(score.normalised), "title": f"{score.key}: {short(score.normalised, 3)}"}


def _sections(board: Leaderboard, row: Row) -> list[dict[str, Any]]:
    """Every score of a generator by group."""
    order = (*GROUPS, "validity", "cost")
    found = {g: [s for s in row.scores.values() if s.group == g] for g in order}
    return [
        {"word": GROUP_WORDS[g], "scores": [{"score": s, **_remark(board, s)} for s in scores]}
        for g, scores in found.items()
        if scores
    ]


def _remark(board: Leaderboard, score: Score) -> dict[str, Any]:
    if score.value is None:
        return {"remark": score.reason, "state": "missing" if score.applicable else "uninformative"}
    if score.key in board.left_out:
        return {"remark": "uninformative: floor and ceiling cannot be told apart", "state": "uninformative"}
    return {"remark": score.reason or "", "state": "ranked" if score.key in board.keys else "plain"}


def _result(result: Result) -> dict[str, Any]:
    cost = result.cost
    facts: dict[str, str | None] = {
        "unit": result.unit,
        "status": result.status + (f": {result.reason}" if result.reason else ""),
        "command": result.command,
        "finished": result.finished,
        "wall time": f"{cost['wall_s']:.1f} s",
        "CPU time": f"{cost['cpu_s']:.1f} s",
        "peak memory": f"{cost['peak_memory_bytes'] / 2**20:,.0f} MiB",
        "orders simulated": f"{cost['orders']:,}" if cost.get("orders") is not None else None,
        "parameters": ", ".join(f"{k} = {v}" for k, v in result.generator["parameters"].items()) or "defaults",
    }
    if result.artifact:
        seen = result.artifact["trained_on"]
        more = f" and {seen['periods'] - LISTED} more" if seen["periods"] > LISTED else ""
        facts["artifact"] = result.artifact["content_hash"][:16]
        facts["trained on"] = f"{seen['periods']} periods: {'; '.join(seen['list'][:LISTED])}{more}"
    return {
        "facts": {k: v for k, v in facts.items() if v},
        "notes": [n for o in result.outcomes.values() for n in o.notes],
    }


def _matrix(board: Leaderboard) -> list[dict[str, Any]]:
    """Every score beside every generator, by group."""
    sections: dict[str, list[dict[str, Any]]] = {}
    for key in all_keys(board):
        shared = any_score(board, key)
        state = _remark(board, shared)["state"] if shared.value is not None else "plain"
        values: list[dict[str, Any]] = []
        for row in board.rows:
            score = row.scores.get(key)
            normalised = None if score is None else score.normalised
            shade = None if normalised is None else round(min(max(normalised, 0.0), 1.0) * 100)
            values.append({"score": score, "shade": shade, "word": row.word(key)})
        line = {"key": key, "shared": shared, "values": values, "state": "ranked" if key in board.keys else state}
        sections.setdefault(GROUP_WORDS[shared.group], []).append(line)
    return [{"word": word, "lines": lines} for word, lines in sections.items()]


def _gallery(board: Leaderboard, cache: Path | None) -> list[dict[str, Any]]:
    """Figure name -> one picture for each generator (of its first seed)."""
    by_name: dict[str, list[dict[str, str]]] = {}
    for row in board.rows:
        drawn: set[str] = set()
        for result in row.results:
            for name, image in _images(result, cache).items():
                if name not in drawn:
                    drawn.add(name)
                    source = "data:image/png;base64," + base64.b64encode(image).decode()
                    by_name.setdefault(name, []).append({"label": row.label, "source": source})
    return [{"name": name, "images": images} for name, images in by_name.items()]


def _images(result: Result, cache: Path | None) -> Mapping[str, bytes]:
    return figures.render(result, cache) if result.status == "done" else {}


def _provenance(board: Leaderboard) -> dict[str, Any]:
    """Facts about all results together."""
    results = [r for row in board.rows for r in row.results]
    head = board.reference or results[0]
    packages = {f"{k} {v}" for r in results for k, v in r.environment["packages"].items()}
    machines = {
        f"{e['hardware']['processor']}, {e['hardware']['cores']} cores, {e['hardware']['memory_bytes'] / 2**30:.0f} GiB"
        + "".join(f", {a}" for a in e["hardware"]["accelerators"])
        for e in (r.environment for r in results)
    }
    commits = {
        e["repository"]["commit"][:12] + (" (modified)" if e["repository"]["modified"] else "")
        for e in (r.environment for r in results)
        if e["repository"]
    }
    return {
        "data set": f"{head.dataset['name']} version {head.dataset['version']}: {head.dataset['summary']}",
        "data hash": head.dataset["content_hash"],
        "test periods": "; ".join(head.dataset["test"][:LISTED])
        + (" ..." if len(head.dataset["test"]) > LISTED else ""),
        "tasks": "; ".join(sorted({f"{r.task['label']} version {r.task['version']}" for r in results})),
        "metrics": "; ".join(
            sorted({f"{m['label']} version {m['version']}" for r in results for m in r.task["metrics"]})
        ),
        "floors": _floors(head.floors),
        "run": f"{min(r.started for r in results)} to {max(r.finished for r in results)}",
        "commands": sorted({r.command for r in results}),
        "marsbench": ", ".join(sorted({r.environment["marsbench"] for r in results})),
        "commit": ", ".join(sorted(commits)),
        "python": ", ".join(sorted({r.environment["python"] for r in results})),
        "packages": ", ".join(sorted(packages)),
        "machines": "; ".join(sorted(machines)),
    }


def _floors(facts: Mapping[str, Any]) -> str:
    """Where the frozen floors come from, or why there are none."""
    if not facts.get("hash"):
        return str(facts.get("reason") or "measured by the metrics themselves")
    return f"{facts.get('generator')}, hash {str(facts['hash'])[:16]}"

"""The leaderboard as text: an aligned table, Markdown, JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from marsbench.files import markdown_table
from marsbench.leaderboard import WITHIN_DAY, Leaderboard
from marsbench.ranking import GROUPS
from marsbench.scores import Score

FEW = 5
"""Up to so many ranking scores are named, with a warning."""
BELOW = (
    "above, below floor: scores, ranking or not, whose whole interval is better, or worse, than their floor (of the "
    "paired difference where the floor has an error of its own)"
)


def number(value: float | str | None, digits: int = 3) -> str:
    """A number for a table; words pass, None is a dash."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:z.{digits}f}"


def number_text(value: object) -> str:
    """Any field of a score for a table."""
    return _g(value) if isinstance(value, float) else "-" if value is None else str(value)


def cells(board: Leaderboard) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the ranking as text: the profile by group first, the overall after it."""
    head = ["rank", "generator", *board.groups, *board.counted, "validity", "overall", "below floor"]
    body = []
    for row in board.rows:
        groups = [number(row.groups.get(g, "missing")) for g in board.groups]
        groups += [_of(*row.above_floor(g), "above floor") for g in board.counted]
        rate = f"{row.orders_per_s:,.0f}" if row.orders_per_s else "-"
        interval = f" [{number(row.interval[0])}, {number(row.interval[1])}]" if row.interval and row.placed else ""
        ranked = number(row.overall) + interval if row.placed else "unranked"
        broken, limits = row.checks
        valid = "-" if not limits else f"{broken} of {limits} broken" if broken else f"{limits} passed"
        body.append([board.place(row), row.label, *groups, valid, ranked, _of(*row.below_floor), rate])
    return [*head, "orders/s"], body


def _of(count: int, whole: int, word: str = "") -> str:
    return f"{count} of {whole} {word}".rstrip() if whole else "-"


def ranked_by(board: Leaderboard) -> str:
    """One sentence: how many scores rank, and of which groups."""
    sizes = Counter(board.keys.values())
    if not sizes:
        return "No score ranks."
    parts = ", ".join(f"{sizes[group]} of {group}" for group in board.groups)
    few = f" So few carry an order badly: {', '.join(board.keys)}." if len(board.keys) <= FEW else ""
    return f"{len(board.keys)} score{'s rank' if len(board.keys) > 1 else ' ranks'}: {parts}.{few}"


def title(board: Leaderboard) -> str:
    """One line that says what was ranked."""
    seeds = f"seed{'s' if len(board.seeds) > 1 else ''} {', '.join(map(str, board.seeds))}"
    return f"{board.dataset['name']} · {', '.join(board.tasks)} · {seeds}"


def to_table(board: Leaderboard) -> str:
    """Aligned text for a terminal."""
    head, body = cells(board)
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    lines = ["  ".join(c.ljust(w) if i == 1 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))) for line in [head, *body]]  # fmt: skip  # noqa: E501
    lines.insert(1, "  ".join("-" * w for w in widths))
    unranked = [f"unranked {row.label}: {row.unranked}" for row in board.rows if row.unranked]
    ruler = "0 = floor, 1 = ceiling; interquartile mean within a group, plain mean over groups; " + BELOW
    out = [title(board), *lines, ranked_by(board), ruler, *unranked, *board.notes]
    return "\n".join(line.rstrip() for line in out)


def to_markdown(board: Leaderboard) -> str:
    """Markdown: the ranking, then every score with floor and ceiling."""

    def table(head: Sequence[str], rows: Iterable[Sequence[str]], rules: Sequence[str]) -> str:
        return markdown_table(head, ([cell.replace("<", "&lt;") for cell in row] for row in rows), rules)

    head, body = cells(board)
    out = [f"# {title(board)}", ""]
    out += [f"> {note}" for note in board.notes if note == WITHIN_DAY] + [""] * board.single_day
    out += [table(head, body, ["--:", "---", *["--:"] * (len(head) - 2)]), ""]
    out += [f"- **{row.label}** is unranked: {row.unranked}" for row in board.rows if row.unranked]
    out += ["", ranked_by(board), "", "0 is the floor and 1 the ceiling of every score; the interquartile mean within a group, the plain mean over groups; " + BELOW + "."]  # fmt: skip  # noqa: E501
    out += [note for note in board.notes if note != WITHIN_DAY]
    labels = [row.label for row in board.rows]
    head = ["score", "unit", "floor", "ceiling", *labels]
    every = (_score_cells(board, key) for key in all_keys(board))
    out += ["", "## Every score", "", table(head, every, ["---", "---", *["--:"] * (len(head) - 2)])]
    out += ["", "`*` takes part in the ranking. Values are raw, with their interval where there is one."]
    return "\n".join(out) + "\n"


def all_keys(board: Leaderboard) -> list[str]:
    """Every score key of a board, in the order of groups."""
    order = {g: i for i, g in enumerate((*GROUPS, "validity", "cost"))}
    found = {key: s.group for row in board.rows for key, s in row.scores.items()}
    return sorted(found, key=lambda k: order[found[k]])


def any_score(board: Leaderboard, key: str) -> Score:
    """The score of the first generator that has it, at best with a value: its floor, ceiling and unit hold for all."""
    found = [row.scores[key] for row in board.rows if key in row.scores]
    return next((score for score in found if score.value is not None), found[0])


def _score_cells(board: Leaderboard, key: str) -> list[str]:
    shared = any_score(board, key)
    values = []
    for row in board.rows:
        score = row.scores.get(key)
        if score is None or score.value is None:
            values.append(row.word(key))
        else:
            interval = (
                f" [{score.ci_low:.3g}, {score.ci_high:.3g}]" if None not in (score.ci_low, score.ci_high) else ""
            )
            values.append(f"{score.value:.4g}{interval}")
    mark = "*" if key in board.keys else " (uninformative)" if key in board.left_out else ""
    return [f"{key}{mark}", shared.unit, _g(shared.floor), _g(shared.ceiling), *values]


def _g(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def to_json(boards: Sequence[Leaderboard]) -> str:
    """All boards as one JSON document."""
    return json.dumps({"leaderboards": [board.to_dict() for board in boards]}, indent=1, allow_nan=False)

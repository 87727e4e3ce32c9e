"""Reading docs/sources: fenced blocks, and the tables of error cases."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "sources"


def block(page: str, language: str) -> str:
    """The first fenced block of a language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", (FOLDER / page).read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def error_table(page: str) -> dict[str, str]:
    """What is wrong: the message, of the page's table of error cases."""
    text = (FOLDER / page).read_text().split("\n## Error cases\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", text, re.MULTILINE)[1:]
    table = {what: message.strip("`") for what, message in rows if set(what) != {"-"}}
    assert len(table) > 0
    return table

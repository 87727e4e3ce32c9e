"""The one error that readers of market data raise when a file is not what it should be."""

from __future__ import annotations


class DataError(ValueError):
    """A source file is damaged, incomplete, or not in the format that it claims.

    Parameters
    ----------
    file
        Name of the file (and the member inside an archive).
    reason
        What is wrong, with the value, and what was expected.
    row
        Line of the file, counted from 1 (a header is line 1); None when the whole file is meant.
    """

    def __init__(self, file: object, reason: str, *, row: int | None = None) -> None:
        self.file = str(file)
        self.row = row
        self.reason = reason
        where = self.file if row is None else f"{self.file}, row {row}"
        super().__init__(f"{where}: {reason}")

"""Download a file over an unreliable line: resumed, verified by SHA-256, and named only once it is whole.

The bytes go to ``NAME.part``; ``NAME.part.json`` beside it holds what the server said about the file, so
that a later attempt asks only for what is missing (HTTP Range with If-Range) and starts anew where the
file has changed or the server sends all of it.
"""

from __future__ import annotations

import hashlib
import os
import time
import urllib.parse
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marsbench import progress
from marsbench.data.catalogue import lock
from marsbench.data.download_http import (
    LONGEST_WAIT_S,
    Broken,
    DiskFull,
    DownloadError,
    Line,
    Part,
    Unverified,
    attempt,
    disk,
)

__all__ = ["DiskFull", "DownloadError", "Downloaded", "Line", "Unverified", "download", "sha256_of"]


@dataclass(frozen=True)
class Downloaded:
    """A file that lies there whole."""

    path: Path
    url: str
    sha256: str
    size_bytes: int
    verified: bool
    """Whether the SHA-256 is the expected one; False where none was known."""
    received_bytes: int
    """Bytes that came over the line this time; 0 for a file that was there."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return {**asdict(self), "path": str(self.path)}


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    url: str, target: Path, *, sha256: str | None, allow_unverified: bool = False, line: Line | None = None
) -> Downloaded:
    """Bring a zip archive from an address to ``target``, or verify the one that is there.

    Parameters
    ----------
    sha256
        Expected checksum (hex); None where nobody knows it.
    allow_unverified
        Whether a file without an expected checksum may get its name all the same.
    line
        Timeouts and retries.

    Raises
    ------
    Unverified
        If ``sha256`` is None and that is not allowed; the message gives the checksum that was computed.
    DownloadError
        If the server does not give the file, or gives another one.
    DiskFull
        If there is no space for it.
    ValueError
        For an address that is not http(s), or a checksum that is not one.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https") or not urllib.parse.urlsplit(url).hostname:
        raise ValueError(f"address {url!r}: must begin with http:// or https:// and name a server")
    if sha256 is not None and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise ValueError(f"SHA-256 {sha256!r}: must be 64 hexadecimal digits")
    wanted = sha256.lower() if sha256 else None
    with lock(target):
        if target.exists():
            return _present(url, target, wanted)
        part = Part(target)
        _complete(url, part, line or Line(), resume_blindly=wanted is not None)
        return _accept(url, part, wanted, allow_unverified)


def _present(url: str, target: Path, wanted: str | None) -> Downloaded:
    found = sha256_of(target)
    if wanted and found != wanted:
        raise DownloadError(
            f"{target}: lies there already, but its SHA-256 is {found}, expected {wanted}; nothing was downloaded. "
            "Move it away to download it again"
        )
    return Downloaded(target, url, found, target.stat().st_size, wanted is not None, 0)


def _complete(url: str, part: Part, line: Line, *, resume_blindly: bool) -> None:
    """Attempt until the part is whole. Only attempts that bring nothing new count against the retries."""
    failures, most = 0, part.size()
    while True:
        try:
            return attempt(url, part, line, resume_blindly=resume_blindly)
        except Broken as error:
            size = part.size()
            failures = 1 if size > most else failures + 1
            most = max(size, most)
            if failures > line.retries:
                kept = f"; {size} bytes are kept in {part.path}, run the same command again to go on" if size else ""
                tries = f"{failures} attempts in a row" if failures > 1 else "one attempt"
                raise DownloadError(f"{url}: {error} ({tries}){kept}") from error.__cause__
            wait = max(error.wait_s, min(line.backoff_s * 2 ** (failures - 1), LONGEST_WAIT_S))
            progress.say(f"{part.target.name}: {error}; again in {wait:g} s")
            time.sleep(wait)


def _accept(url: str, part: Part, wanted: str | None, allow_unverified: bool) -> Downloaded:
    """Give the part its name if it is the right file."""
    found, size = sha256_of(part.path), part.size()
    name = part.target.name
    if wanted is not None and found != wanted:
        start = part.path.read_bytes()[:40]
        part.drop()
        raise DownloadError(
            f"{url}: the {size} bytes that came are not {name}: SHA-256 {found}, expected {wanted} (they begin "
            f"{start!r}); they were removed. If the publisher changed the file, give its checksum with --sha256"
        )
    if not zipfile.is_zipfile(part.path):
        start = part.path.read_bytes()[:40]
        part.drop()
        raise DownloadError(f"{url}: the {size} bytes that came are no whole zip archive (they begin {start!r})")
    if wanted is None and not allow_unverified:
        raise Unverified(
            f"{name}: no checksum of this file is known, so the download cannot be called verified. What came "
            f"({size} bytes, kept in {part.path}) has SHA-256 {found}. Give --sha256 {found} if a source that "
            "you trust says the same, or --allow-unverified to use it as it is"
        )
    with disk(part):
        os.replace(part.path, part.target)
    part.note.unlink(missing_ok=True)
    return Downloaded(part.target, url, found, size, wanted is not None, part.received_bytes)

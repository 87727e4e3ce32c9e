"""One attempt to get what is missing of a file over HTTP, and the unfinished file itself.

See ``marsbench.data.download`` for what is done with it.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from email.message import Message
from pathlib import Path
from typing import Any

from marsbench import __version__, progress
from marsbench.files import write_atomic

CHUNK = 1 << 16
LONGEST_WAIT_S = 60.0
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Answers that another attempt may change."""


class DownloadError(RuntimeError):
    """A file could not be downloaded, or is not what it should be. The message says what is left behind."""


class Unverified(DownloadError):
    """The file arrived, but no checksum vouches for it."""


class DiskFull(OSError):
    """No space left; what has arrived is kept."""


class Broken(Exception):
    """One attempt failed in a way that the next one may not."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Line:
    """How patient a download is."""

    timeout_s: float = 30.0
    """Longest wait for an answer, or for the next bytes."""
    retries: int = 5
    """Attempts after the first that bring nothing new before it gives up."""
    backoff_s: float = 1.0
    """Wait before the first of them; doubled each time, up to a minute."""

    def __post_init__(self) -> None:
        if not (self.timeout_s > 0 and self.retries >= 0 and self.backoff_s >= 0):
            raise ValueError(f"timeout_s must be positive, retries and backoff_s 0 or more; got {self}")


@dataclass(frozen=True)
class Remote:
    """What the server said of the file whose beginning lies in the ``.part``."""

    url: str
    validator: str = ""
    """A strong ETag, or else the date of the last change."""
    total: int | None = None


class Part:
    """The unfinished file and its note."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")
        self.received_bytes = 0

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def remote(self) -> Remote | None:
        try:
            return Remote(**json.loads(self.note.read_text()))
        except (FileNotFoundError, ValueError, TypeError):  # none, or not ours: the part cannot be trusted
            return None

    def remember(self, remote: Remote) -> None:
        with disk(self):
            write_atomic(self.note, json.dumps(asdict(remote)))

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


@contextmanager
def disk(part: Part) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFull(
            error.errno,
            f"no space left for {part.path}; what has arrived is kept. Free space and run the same command again",
        ) from error


def attempt(url: str, part: Part, line: Line, *, resume_blindly: bool) -> None:
    """One request for what is missing."""
    known, have = part.remote(), part.size()
    if known is None or known.url != url or not (known.validator or resume_blindly):
        have = 0
    if known is not None and known.total is not None:
        if have == known.total:
            return
        have = have if have < known.total else 0
    headers = {"User-Agent": f"marsbench/{__version__}", "Accept-Encoding": "identity"}
    if have and known is not None:
        headers["Range"] = f"bytes={have}-"
        if known.validator:
            headers["If-Range"] = known.validator
    try:
        answer = _open(urllib.request.Request(url, headers=headers), line)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.drop()
            raise Broken("the server does not have the rest of what was begun; beginning anew") from error
        text = f"the server answers {error.code} {error.reason}"
        if error.code in _AGAIN:
            raise Broken(text, _retry_after(error.headers)) from error
        raise DownloadError(f"{url}: {text}; is the address right? (--url sets another)") from error
    with answer:
        _receive(answer, url, part, known if have else None)


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but not from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise DownloadError(f"{req.full_url}: sends us on to {newurl}, which is not encrypted; not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(request: urllib.request.Request, line: Line) -> Any:
    try:
        return urllib.request.build_opener(_NoDowngrade).open(request, timeout=line.timeout_s)
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise Broken(f"no connection to {urllib.parse.urlsplit(request.full_url).netloc} ({error.reason})") from error
    except TimeoutError as error:
        raise Broken(f"no answer within {line.timeout_s:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise Broken(f"the connection broke ({_why(error)})") from error


def _receive(answer: Any, url: str, part: Part, begun: Remote | None) -> None:
    """Write the body of an answer behind what is there, or in its place."""
    kind = answer.headers.get_content_type()
    if kind in ("text/html", "application/xhtml+xml"):
        raise DownloadError(
            f"{answer.url}: gives a web page ({kind}) instead of a zip archive; look at it in a browser"
        )
    length = answer.headers.get("Content-Length")
    have, total = 0, int(length) if length and length.isdigit() else None
    if answer.status == 206:
        first, whole = _content_range(answer.headers)
        if begun is None or first != part.size() or (begun.total and whole and whole != begun.total):
            part.drop()
            raise Broken("the server sends another part than the one asked for; beginning anew")
        have, total = first, whole
    etag = answer.headers.get("ETag", "")
    validator = (etag if etag and not etag.startswith("W/") else "") or answer.headers.get("Last-Modified", "")
    remote = replace(begun, total=total) if have and begun else Remote(url, validator, total)
    if not have:
        part.drop()
    part.remember(remote)
    received = 0
    with (
        disk(part),
        open(part.path, "ab" if have else "wb", buffering=0) as file,
        progress.bar(desc=part.target.name, total=total, initial=have, unit="B", unit_scale=True) as bar,
    ):
        for chunk in _chunks(answer):
            _write(file, chunk)
            received += len(chunk)
            part.received_bytes += len(chunk)
            bar.update(len(chunk))
        os.fsync(file.fileno())
    if total is not None and have + received != total:
        raise Broken(f"the connection ended after {have + received} of {total} bytes")
    part.remember(replace(remote, total=have + received))


def _write(file: Any, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]


def _chunks(answer: Any) -> Iterator[bytes]:
    while True:
        try:
            chunk = answer.read1(CHUNK)
        except TimeoutError as error:
            raise Broken("no more bytes came in time") from error
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"the connection broke ({_why(error)})") from error
        if not chunk:
            return
        yield chunk


def _why(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _content_range(headers: Message) -> tuple[int, int | None]:
    """First byte and size of the whole of ``bytes FIRST-LAST/WHOLE``; -1 where it cannot be read."""
    unit, _, rest = headers.get("Content-Range", "").partition(" ")
    span, _, whole = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not first.isdigit():
        return -1, None
    return int(first), int(whole) if whole.isdigit() else None


def _retry_after(headers: Message) -> float:
    text = headers.get("Retry-After", "")
    return min(float(text), LONGEST_WAIT_S) if text.isdigit() else 0.0

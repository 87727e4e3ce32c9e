"""Public sample files from their publishers: which there are, under which terms, and by what checksum they are known.

Addresses and checksums are settings (``fetch.toml`` beside this file, or a file of your own).
"""

from __future__ import annotations

import difflib
import os
import re
import string
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from marsbench.data.catalogue import data_home
from marsbench.data.download import Downloaded, Line, download

SETTINGS = "MARSBENCH_FETCH_SETTINGS"
"""Environment variable with the path of another settings file."""


@dataclass(frozen=True)
class Sample:
    """What a settings file says of one set of samples."""

    url: str
    """Address with ``{TICKER}`` and ``{LEVELS}``."""
    home: str
    """Where the publisher's terms are."""
    tickers: tuple[str, ...]
    levels: tuple[int, ...]
    terms: str
    """Shown before anything is downloaded; ``{HOME}`` stands for ``home``."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Known checksums by file name."""

    def address(self, ticker: str, levels: int) -> str:
        """Where one file lies.

        Raises
        ------
        ValueError
            If the template has another placeholder than these two.
        """
        try:
            names = {name for _, name, _, _ in string.Formatter().parse(self.url) if name is not None}
        except ValueError as error:
            raise ValueError(f"address {self.url!r}: {error}; placeholders are {{TICKER}} and {{LEVELS}}") from None
        if names - {"TICKER", "LEVELS"}:
            raise ValueError(
                f"address {self.url!r}: unknown placeholders {sorted(names - {'TICKER', 'LEVELS'})}; "
                "there are {TICKER} and {LEVELS}"
            )
        return self.url.format(TICKER=ticker, LEVELS=levels)


class TermsNotAccepted(ValueError):
    """The publisher's terms were shown and not accepted."""


def settings(path: str | Path | None = None) -> dict[str, Sample]:
    """The sets of samples by name, from ``path``, the environment's settings file, or our own.

    Raises
    ------
    ValueError
        If the file is not TOML of that form.
    OSError
        If it cannot be read.
    """
    where = Path(path or os.environ.get(SETTINGS) or Path(__file__).with_name("fetch.toml"))
    try:
        content = tomllib.loads(where.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{where}: not TOML ({error})") from error
    return {name: _sample(where, name, values) for name, values in content.items()}


def _sample(where: Path, name: str, values: Any) -> Sample:
    if not isinstance(values, dict):
        raise ValueError(f"{where}: {name!r} must be a table [{name}], got {values!r}")
    known = [f.name for f in fields(Sample)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{where}: [{name}] has an unknown key {key!r}{hint} There are: {', '.join(known)}")
    missing = [f.name for f in fields(Sample) if f.name not in values and f.name != "sha256"]
    if missing:
        raise ValueError(f"{where}: [{name}] lacks {', '.join(missing)}")
    lists = {k: tuple(values[k]) for k in ("tickers", "levels")}
    return Sample(**{**values, **lists})


def fetch(
    source: str,
    *,
    tickers: Sequence[str] | None = None,
    levels: int | None = None,
    out: str | Path | None = None,
    url: str | None = None,
    sha256: str | None = None,
    allow_unverified: bool = False,
    accept: Callable[[str], bool],
    settings_file: str | Path | None = None,
    line: Line | None = None,
) -> list[Downloaded]:
    """Download sample files, or verify those that are there.

    Parameters
    ----------
    source
        Name of a set of samples, such as ``"lobster-sample"``.
    tickers, levels
        Which files; by default GOOG with 10 levels.
    out
        Folder; by default ``downloads/<source>`` in the data home.
    url
        Another address template than the settings'. Then any ticker and any number of levels may be asked for.
    sha256
        Checksum of the file (of one only) instead of the settings'.
    allow_unverified
        Accept a file that no known checksum vouches for.
    accept
        Given the terms, says whether the user accepts them. Not asked where every file is there.
    settings_file
        Another settings file.
    line
        Timeouts and retries.

    Raises
    ------
    TermsNotAccepted
        If ``accept`` says no.
    ValueError
        For an unknown source, ticker or number of levels, or a bad address or checksum.
    DownloadError
        If a file cannot be had, or is not what it should be.
    """
    known = settings(settings_file)
    if source not in known:
        raise ValueError(f"unknown sample {source!r}{_near(source, known)}; there are: {', '.join(sorted(known))}")
    sample = known[source]
    if url is not None:
        sample = Sample(url, sample.home, sample.tickers, sample.levels, sample.terms, sample.sha256)
    wanted = [t.upper() for t in tickers or ["GOOG"]]
    depth = 10 if levels is None else levels
    if url is None:
        _check(sample, wanted, depth)
    if sha256 is not None and len(wanted) != 1:
        raise ValueError(f"--sha256 is the checksum of one file, but {len(wanted)} are asked for: {wanted}")
    folder = data_home() / "downloads" / source if out is None else Path(out)
    jobs = []
    for ticker in dict.fromkeys(wanted):
        address = sample.address(ticker, depth)
        name = urlsplit(address).path.rsplit("/", 1)[-1]
        if not name.endswith(".zip"):
            raise ValueError(f"address {address!r}: must end in the name of a zip file")
        jobs.append((address, folder / name, sha256 or sample.sha256.get(name)))
    if not all(target.exists() for _, target, _ in jobs):
        terms = sample.terms.strip().format(HOME=sample.home)
        if not accept("\n".join([terms, "Addresses:", *(f"  {address}" for address, _, _ in jobs)])):
            raise TermsNotAccepted("nothing was downloaded: the terms were not accepted (--accept-terms accepts them)")
    return [
        download(address, target, sha256=checksum, allow_unverified=allow_unverified, line=line)
        for address, target, checksum in jobs
    ]


def dataset_name(path: Path) -> str:
    """The name under which a sample is converted by default: ``lobster-goog-10``, else the file's in lower case."""
    found = re.fullmatch(r"LOBSTER_SampleFile_([A-Za-z0-9]+)_[\d-]+_(\d+)\.zip", path.name)
    text = f"lobster-{found[1]}-{found[2]}" if found else path.stem
    return re.sub(r"[^a-z0-9.-]+", "-", text.lower()).strip("-.")


def _check(sample: Sample, tickers: Sequence[str], levels: int) -> None:
    for ticker in tickers:
        if ticker not in sample.tickers:
            raise ValueError(
                f"no sample of {ticker!r}{_near(ticker, sample.tickers)}; there are: {', '.join(sample.tickers)}"
            )
    if levels not in sample.levels:
        raise ValueError(f"no sample with {levels} levels; there are: {', '.join(map(str, sample.levels))}")


def _near(text: str, choices: Any) -> str:
    near = difflib.get_close_matches(text, list(choices), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""

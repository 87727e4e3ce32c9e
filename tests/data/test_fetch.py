"""Sample files are resumed, verified before they get their name, and refused in words when something is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serving
from paper_exchange import lobster_day

from marsbench.cli import main
from marsbench.data.catalogue import open_dataset
from marsbench.data.download import Downloaded, DownloadError, Line, Unverified, download, sha256_of
from marsbench.data.fetch import TermsNotAccepted, fetch, settings
from toys import interruptible

QUICK = Line(timeout_s=0.5, retries=3, backoff_s=0.01)
NAME = "LOBSTER_SampleFile_TEST_2012-06-21_10.zip"
TEMPLATE = "/info/LOBSTER_SampleFile_{TICKER}_2012-06-21_{LEVELS}.zip"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = lobster_day(3, events=400)[0].write_zip(tmp_path_factory.mktemp("zip") / NAME)
    return path.read_bytes()


@pytest.fixture
def server(archive: bytes) -> Iterator[FileServer]:
    with serving(FileServer(archive)) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "got" / NAME


@pytest.fixture
def get(server: FileServer, target: Path, archive: bytes) -> Callable[..., Downloaded]:
    def call(*, path: str = "/" + NAME, line: Line = QUICK, **options: object) -> Downloaded:
        options.setdefault("sha256", hashlib.sha256(archive).hexdigest())
        return download(server.address + path, target, line=line, **options)  # type: ignore[arg-type]

    target.parent.mkdir()
    return call


def left(target: Path) -> set[str]:
    """Names of what lies beside the target, the lock aside."""
    return {p.name for p in target.parent.iterdir() if not p.name.endswith(".lock")}


def begun(server: FileServer, get: Callable[..., Downloaded], *, after: int) -> None:
    """A download that broke and was not tried again."""
    server.break_after = [after]
    with pytest.raises(DownloadError, match=rf"ended after {after} of \d+ bytes .*one attempt.*{after} bytes are kept"):
        get(line=Line(retries=0, timeout_s=2))
    server.requests.clear()


def test_a_file_arrives_whole_and_nothing_else_stays(server, get, target, archive):
    done = get()
    assert target.read_bytes() == archive
    assert (done.verified, done.received_bytes, done.sha256) == (True, len(archive), sha256_of(target))
    assert left(target) == {NAME}


def test_a_broken_connection_is_taken_up_where_it_broke(server, get, target, archive):
    server.break_after = [5000, 3000]
    done = get()
    assert [r for _, r in server.requests] == [None, "bytes=5000-", "bytes=8000-"]
    assert target.read_bytes() == archive
    assert done.received_bytes == len(archive)


def test_a_later_command_asks_only_for_the_rest(server, get, target, archive):
    begun(server, get, after=7000)
    assert left(target) == {NAME + ".part", NAME + ".part.json"}
    assert get().received_bytes == len(archive) - 7000
    assert server.requests == [("/" + NAME, "bytes=7000-")]


def test_a_server_that_ignores_ranges_sends_all_of_it_again(server, get, target, archive):
    begun(server, get, after=7000)
    server.ranges = False
    assert get().received_bytes == len(archive)
    assert target.read_bytes() == archive


def test_a_file_that_changed_in_between_is_not_put_together_from_two(server, get, target, archive):
    server.content = bytes(len(archive))
    begun(server, get, after=7000)
    server.content, server.etag = archive, '"v2"'
    get()
    assert target.read_bytes() == archive


def test_without_checksum_and_etag_nothing_is_resumed(server, get, target, archive):
    server.headers = {"ETag": ""}
    server.break_after = [7000]
    get(sha256=None, allow_unverified=True)
    assert [r for _, r in server.requests] == [None, None]
    assert target.read_bytes() == archive


def test_a_part_without_its_note_is_not_trusted(server, get, target, archive):
    begun(server, get, after=7000)
    target.with_name(NAME + ".part.json").write_text("{}")
    target.with_name(NAME + ".part").write_bytes(b"something else")
    get()
    assert [r for _, r in server.requests] == [None]
    assert target.read_bytes() == archive


def test_a_part_longer_than_the_file_is_begun_anew(server, get, target, archive):
    begun(server, get, after=7000)
    target.with_name(NAME + ".part").write_bytes(bytes(len(archive) + 10))
    get()
    assert target.read_bytes() == archive


def test_another_part_than_the_one_asked_for_is_not_appended(server, get, target, archive):
    begun(server, get, after=7000)
    server.headers = {"Content-Range": f"bytes 6999-{len(archive) - 1}/{len(archive)}"}
    get()
    assert target.read_bytes() == archive


def test_a_server_that_does_not_answer_in_time_is_given_up_on(server, get, target):
    server.pause_s = 2
    started = time.monotonic()
    with pytest.raises(DownloadError, match=r"no more bytes came in time \(2 attempts"):
        get(line=Line(timeout_s=0.2, retries=1, backoff_s=0.01))
    assert time.monotonic() - started < 2
    assert not target.exists()


def test_a_server_that_is_slow_but_alive_is_waited_for(server, get, target, archive):
    server.drip_s = 0.01
    get(line=Line(timeout_s=0.3, retries=0))
    assert target.read_bytes() == archive


def test_attempts_that_bring_something_do_not_count_as_failures(server, get, target, archive):
    server.break_after = [1000] * 8
    get(line=Line(timeout_s=1, retries=1, backoff_s=0.01))
    assert target.read_bytes() == archive


def test_a_server_that_breaks_at_the_same_place_every_time_is_given_up_on(server, get, target):
    server.ranges, server.break_after = False, [1000] * 20
    with pytest.raises(DownloadError, match="ended after 1000"):
        get()
    assert len(server.requests) == 1 + QUICK.retries


def test_another_content_is_removed_and_both_checksums_are_named(server, get, target, archive):
    server.content = archive[:-1] + b"x"
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(DownloadError, match=rf"SHA-256 {found}, expected {hashlib.sha256(archive).hexdigest()}"):
        get()
    assert left(target) == set()


def test_a_web_page_instead_of_an_archive_is_called_that(server, get, target):
    server.content, server.headers = b"<!DOCTYPE html><p>moved</p>", {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(DownloadError, match=r"gives a web page \(text/html\) instead of a zip archive"):
        get()
    server.headers = {}  # and one that says that it is an archive
    with pytest.raises(DownloadError, match=r"no whole zip archive .*<!DOCTYPE html>"):
        get(sha256=None, allow_unverified=True)
    assert left(target) == set()


def test_a_missing_file_is_not_asked_for_twice(server, get, target):
    server.status = [404]
    with pytest.raises(DownloadError, match=r"the server answers 404 Not Found; is the address right\?"):
        get()
    assert len(server.requests) == 1


def test_a_server_in_trouble_is_asked_again(server, get, target, archive):
    server.status = [500, 503]
    get()
    assert target.read_bytes() == archive
    target.unlink()
    server.status = [500] * 20
    with pytest.raises(DownloadError, match="answers 500 Internal Server Error"):
        get()


@pytest.mark.parametrize("wrong", [+100, -100])
def test_a_wrong_content_length_gives_no_file(server, get, target, archive, wrong):
    server.headers = {"Content-Length": str(len(archive) + wrong)}
    with pytest.raises(DownloadError, match=r"ended after|not LOBSTER_SampleFile"):
        get(line=Line(timeout_s=0.5, retries=0))
    assert not target.exists()


def test_a_file_of_unknown_length_arrives(server, get, target, archive):
    server.headers = {"Content-Length": ""}
    get()
    assert target.read_bytes() == archive


def test_a_redirection_is_followed(server, get, target, archive):
    server.redirect = {"/old.zip": server.address + "/" + NAME}
    get(path="/old.zip")
    assert target.read_bytes() == archive


def test_no_server_is_said_to_be_no_connection(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/{NAME}"
    with pytest.raises(DownloadError, match=r"no connection to 127\.0\.0\.1:\d+ .*refused.*4 attempts in a row"):
        download(address, tmp_path / NAME, sha256=None, line=QUICK)


def test_a_file_that_is_there_is_verified_and_not_downloaded(server, get, target, archive):
    target.write_bytes(archive)
    assert (get().received_bytes, get().verified) == (0, True)
    target.write_bytes(b"mine")
    with pytest.raises(DownloadError, match="lies there already, but its SHA-256 is"):
        get()
    assert target.read_bytes() == b"mine"
    assert server.requests == []


def test_a_file_that_no_checksum_vouches_for_is_kept_back_and_accepted_on_request(server, get, target, archive):
    found = hashlib.sha256(archive).hexdigest()
    with pytest.raises(Unverified, match=rf"cannot be called verified.*has SHA-256 {found}.*--allow-unverified"):
        get(sha256=None)
    assert left(target) == {NAME + ".part", NAME + ".part.json"}
    server.requests.clear()
    assert get(sha256=found).verified
    assert server.requests == []  # what had come is used
    target.unlink()
    assert not get(sha256=None, allow_unverified=True).verified


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which is always full")
def test_a_full_disk_is_named_and_leaves_no_file(server, get, target, monkeypatch, capsys):
    begun(server, get, after=7000)
    target.with_name(NAME + ".part").unlink()
    target.with_name(NAME + ".part").symlink_to("/dev/full")
    server.etag = '"v2"'
    monkeypatch.setattr("marsbench.data.download_http.Part.drop", lambda part: None)  # keeps the link to the full disk
    monkeypatch.chdir(target.parent)
    command = ["data", "fetch", "lobster-sample", "--ticker", "TEST", "--url", server.address + TEMPLATE, "--out", "."]
    assert main([*command, "--accept-terms"]) == 1
    assert "no space left" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize(
    ("address", "checksum", "what"),
    [("ftp://x/a.zip", None, "http"), ("/a.zip", None, "http"), ("http://x/a.zip", "abc", "64 hexadecimal digits")],
)
def test_addresses_and_checksums_are_checked_first(tmp_path, address, checksum, what):
    with pytest.raises(ValueError, match=what):
        download(address, tmp_path / "a.zip", sha256=checksum)


# Which files, and the terms


def test_the_settings_know_the_addresses_and_some_checksums():
    sample = settings()["lobster-sample"]
    assert sample.tickers == ("AAPL", "AMZN", "GOOG", "INTC", "MSFT")
    assert sample.levels == (1, 5, 10)
    names = {sample.address(t, n).rsplit("/", 1)[-1] for t in sample.tickers for n in sample.levels}
    assert set(sample.sha256) <= names
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in sample.sha256.values())


@pytest.mark.parametrize("name", ["GOOG_2012-06-21_10", "AAPL_2012-06-21_1"])
def test_the_known_checksums_are_those_of_the_published_files(real_file, name):
    path = real_file(f"lobster/LOBSTER_SampleFile_{name}.zip")
    assert settings()["lobster-sample"].sha256[path.name] == sha256_of(path)


def test_settings_of_ones_own_are_checked(tmp_path, monkeypatch):
    path = tmp_path / "mine.toml"
    for text, what in [
        ("x = [", "not TOML"),
        ("lobster-sample = 1", "must be a table"),
        ('[a]\nurll = "x"', "unknown key 'urll'; did you mean 'url'"),
        ('[a]\nurl = "x"', "lacks home"),
    ]:
        path.write_text(text)
        with pytest.raises(ValueError, match=re.escape(what)):
            settings(path)
    path.write_text('[own]\nurl = "http://h/{TICKER}.zip"\nhome = ""\ntickers = ["X"]\nlevels = [10]\nterms = ""\n')
    monkeypatch.setenv("MARSBENCH_FETCH_SETTINGS", str(path))
    assert settings()["own"].address("X", 1) == "http://h/X.zip"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"source": "lobster"}, "unknown sample 'lobster'"),
        ({"tickers": ["GOGO"]}, "no sample of 'GOGO'; did you mean 'GOOG'"),
        ({"levels": 7}, "no sample with 7 levels; there are: 1, 5, 10"),
        ({"url": "http://h/{TICKR}.zip"}, "unknown placeholders ['TICKR']"),
        ({"url": "http://h/{TICKER"}, "placeholders are {TICKER} and {LEVELS}"),
        ({"url": "http://h/{TICKER}"}, "must end in the name of a zip file"),
        ({"tickers": ["GOOG", "AAPL"], "sha256": "0" * 64}, "checksum of one file, but 2"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(tmp_path, options, what):
    with pytest.raises(ValueError, match=re.escape(what)):
        fetch(**{"source": "lobster-sample", "out": tmp_path, "accept": pytest.fail, **options})


def test_the_terms_are_shown_and_must_be_accepted(server, tmp_path):
    shown: list[str] = []
    with pytest.raises(TermsNotAccepted, match="--accept-terms"):
        fetch(
            "lobster-sample", url=server.address + TEMPLATE, out=tmp_path, accept=lambda text: bool(shown.append(text))
        )
    assert "https://lobsterdata.com" in shown[0]
    assert f"{server.address}/info/LOBSTER_SampleFile_GOOG_2012-06-21_10.zip" in shown[0]
    assert server.requests == []


# The command


@pytest.fixture
def command(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("MARSBENCH_DATA_HOME", str(tmp_path / "home"))
    return ["data", "fetch", "lobster-sample", "--ticker", "test", "--url", server.address + TEMPLATE]


def test_the_command_downloads_converts_and_does_neither_twice(server, command, archive, tmp_path, capsys):
    command += ["--sha256", hashlib.sha256(archive).hexdigest()]
    assert main(command) == 2
    assert "not accepted" in capsys.readouterr().err
    assert main([*command, "--accept-terms", "--convert"]) == 0
    captured = capsys.readouterr()
    path = tmp_path / "home" / "downloads" / "lobster-sample" / NAME
    assert path.read_bytes() == archive
    assert f"{path}: {len(archive)} bytes, verified" in captured.out
    assert "belong to LOBSTER" in captured.err
    assert open_dataset("lobster-test-10").days[0]["instrument"] == "TEST"
    assert main([*command, "--json"]) == 0  # terms are not asked for what is there
    (facts,) = json.loads(capsys.readouterr().out)
    assert (facts["verified"], facts["received_bytes"]) == (True, 0)
    assert len(server.requests) == 1


def test_the_command_says_what_is_not_verified(command, capsys):
    command += ["--accept-terms"]
    assert main(command) == 1
    assert "no checksum of this file is known" in capsys.readouterr().err
    assert main([*command, "--allow-unverified"]) == 0
    shown = capsys.readouterr().out
    assert "NOT VERIFIED" in shown
    assert "marsbench data convert" in shown


def test_an_interrupted_command_keeps_its_part_and_the_next_one_goes_on(server, command, archive, tmp_path):
    command = [sys.executable, "-m", "marsbench.cli", *command, "--accept-terms"]
    command += ["--sha256", hashlib.sha256(archive).hexdigest()]
    part = tmp_path / "home" / "downloads" / "lobster-sample" / (NAME + ".part")
    server.drip_s = 0.2
    environment = {**os.environ, "MARSBENCH_DATA_HOME": str(tmp_path / "home")}
    running = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, preexec_fn=interruptible)
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 2000):
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == 130
    kept = part.stat().st_size
    assert 2000 < kept < len(archive)
    server.drip_s = 0
    server.requests.clear()
    assert subprocess.run(command, env=environment, check=False, capture_output=True).returncode == 0
    assert [r for _, r in server.requests] == [f"bytes={kept}-"]
    assert part.with_name(NAME).read_bytes() == archive

"""The command line. Only the parser lives here; what a verb does is imported when it is called."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from marsbench import __version__

EPILOG = """\
exit codes:
  0    everything was done
  1    something failed: a unit of work, a check, an upload, a folder without anything to compare (score), or the
       disk is full; what fails the validity gate is scored all the same (0) and printed as FAIL
  2    wrong usage or input
  130  interrupted (what is finished is saved; the same command goes on)

specifications: a generator or task is written NAME, NAME,parameter=value,... or NAME:ARGUMENT (files:DIR);
LABEL=SPEC gives a generator another name on the leaderboard. Set MARSBENCH_TRACEBACK=1 to see where an
error comes from.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(arguments)
    os.environ.setdefault("MPLBACKEND", "Agg")  # figures are written to files, never shown
    options.argv = arguments
    try:
        code = getattr(import_module("marsbench.verbs"), options.call)(options)
        sys.stdout.flush()
        return int(code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, RuntimeError, TypeError) as error:
        expected = isinstance(error, (ValueError, OSError, RuntimeError)) or hasattr(error, "user_error")
        if not expected or os.environ.get("MARSBENCH_TRACEBACK"):
            raise
        text = str(error) if str(error) else type(error).__name__
        print(f"marsbench {options.verb}: {text}", file=sys.stderr)
        return 1 if type(error).__name__ == "DiskFull" or isinstance(error, RuntimeError) else 2


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="marsbench",
        description="Evaluation and benchmarking of generators of financial order flow.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"marsbench {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    _run(verbs)
    _score(verbs)
    _leaderboard(verbs)
    _compare(verbs)
    _reproduce(verbs)
    _check(verbs)
    _list(verbs)
    _data(verbs)
    _train(verbs)
    _validate(verbs)
    _track(verbs)
    return top


def _add(verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str) -> argparse.ArgumentParser:
    sub = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    sub.set_defaults(call=name)
    return sub


def _json(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print JSON")


def _results(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--results", default="results", metavar="DIR", help="results folder (default: %(default)s)")


def _what(sub: argparse.ArgumentParser) -> None:
    """Options that say which units are meant."""
    sub.add_argument("-g", "--generators", nargs="+", action="extend", metavar="GEN", help="generators")
    sub.add_argument("-t", "--tasks", "--task", nargs="+", action="extend", metavar="TASK", help="tasks")
    sub.add_argument("-d", "--datasets", "--dataset", nargs="+", action="extend", metavar="DATASET", help="data sets")
    sub.add_argument("--seeds", nargs="+", action="extend", type=int, metavar="N", help="seeds (default: 0)")
    sub.add_argument(
        "--suite", metavar="FILE", help="TOML file with generators, tasks, datasets, seeds, limit; or quick, or paper"
    )
    sub.add_argument("--limit", type=int, metavar="N", help="use only the first N starts; kept apart from full results")
    sub.add_argument("--no-track", dest="track", action="store_false", help="do not log to MLflow")
    _results(sub)


def _run(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sub = _add(verbs, "run", "run what is missing, then rank")
    _what(sub)
    sub.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; results do not depend on it")
    sub.add_argument(
        "--overwrite",
        choices=("missing", "always", "never"),
        default="missing",
        help="missing: run what has no valid, current result (default); always: run all of it anew, caches included; "
        "never: run only what has no file at all",
    )


def _score(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sub = _add(verbs, "score", "score stored trajectories again, without simulating")
    sub.add_argument("gens", nargs="*", metavar="GEN", help="generators (default: all that have results)")
    _what(sub)
    _json(sub)


def _leaderboard(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sub = _add(verbs, "leaderboard", "rank the results")
    sub.add_argument("-d", "--dataset", metavar="DATASET", help="only this data set")
    sub.add_argument("-t", "--tasks", "--task", nargs="+", default=[], metavar="TASK", help="only these tasks")
    sub.add_argument("--seeds", nargs="+", type=int, default=[], metavar="N", help="only these seeds")
    sub.add_argument("--limit", type=int, metavar="N", help="rank the limited results of the first N starts")
    sub.add_argument(
        "--missing",
        choices=("error", "drop"),
        default="error",
        help="where a generator lacks what others have: refuse (default), or list it unranked",
    )
    sub.add_argument("--controls", "--all", action="store_true", help="also list the known-bad controls")
    sub.add_argument(
        "--format", choices=("table", "md", "json", "html", "pages"), default="table",
        help="default: %(default)s; pages: into the results folder, HTML and Markdown of all tasks, Markdown of each",
    )  # fmt: skip
    sub.add_argument("-o", "--output", metavar="FILE", help="write there instead of to standard output")
    sub.add_argument("--no-figures", dest="figures", action="store_false", help="leave figures out of the HTML page")
    _results(sub)


def _compare(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sub = _add(verbs, "compare", "test the differences between two generators, from their results")
    sub.add_argument("a", metavar="A", help="a generator, as the leaderboard names it")
    sub.add_argument("b", metavar="B", help="the other one; differences are A minus B")
    sub.add_argument("-d", "--dataset", metavar="DATASET", help="only on this data set (default: all that hold both)")
    sub.add_argument("-t", "--tasks", "--task", nargs="+", default=[], metavar="TASK", help="only these tasks")
    sub.add_argument("--seeds", nargs="+", type=int, default=[], metavar="N", help="only these seeds")
    sub.add_argument("--limit", type=int, metavar="N", help="the limited results of the first N starts")
    sub.add_argument(
        "--missing",
        choices=("error", "drop"),
        default="error",
        help="where one lacks what the other has: refuse (default), or compare what both have",
    )
    _results(sub)
    _json(sub)


def _reproduce(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sub = _add(verbs, "reproduce", "print a published table beside what the result files say")
    sub.add_argument("items", nargs="+", metavar="ITEM", help="fig11, tab6, tab7, or all")
    sub.add_argument("-d", "--dataset", default="reference", metavar="DATASET", help="default: %(default)s")
    sub.add_argument("-g", "--generators", nargs="+", action="extend", metavar="GEN", help="default: all with results")
    sub.add_argument("-t", "--task", metavar="TASK", help="the item's task with other parameters")
    sub.add_argument("--limit", type=int, metavar="N", help="the limited results of the first N starts")
    sub.add_argument("-o", "--output", metavar="FILE", help="also write a Markdown page")
    _results(sub)
    _json(sub)


def _check(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sub = _add(verbs, "check", "measure how often verdicts and intervals are right, on processes with known answers")
    sub.add_argument("metric", metavar="METRIC", help="a metric with verdicts, or intervals: every interval method")
    sub.add_argument("--seeds", type=int, default=1000, metavar="N", help="draws of a process (default: %(default)s)")
    sub.add_argument(
        "--process", nargs="+", metavar="NAME", help="only these, or those that begin so; -o keeps others' rows"
    )
    sub.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; results do not depend on it")
    sub.add_argument("-o", "--output", metavar="DIR", help="also write check-METRIC.md and .json there")
    _json(sub)


def _list(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sub = _add(verbs, "list", "list what there is")
    sub.set_defaults(call="list_")
    sub.add_argument("what", choices=("generators", "metrics", "tasks", "datasets", "quantities"))
    _json(sub)


def _data(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sub = _add(verbs, "data", "list, convert and verify data sets")
    actions = sub.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = _add(actions, "list", "list the data sets")
    listing.set_defaults(call="data_list")
    convert = _add(actions, "convert", "convert an exchange's files to a data set of ours")
    convert.set_defaults(call="data_convert")
    convert.add_argument("paths", nargs="+", metavar="PATH", help="source files or folders, one for each day")
    convert.add_argument("--name", required=True, help="name of the data set")
    convert.add_argument("--out", metavar="DIR", help="its folder (default: in the data home)")
    convert.add_argument("--summary", help="one line about it")
    convert.add_argument("--train-until", metavar="HH:MM", help="single day: when training ends")
    convert.add_argument("--embargo", type=int, metavar="MINUTES", help="single day: gap between training and test")
    convert.add_argument("--replace", action="store_true", help="replace a data set of that name")
    verify = _add(actions, "verify", "replay files and compare with what the exchange published")
    verify.set_defaults(call="data_verify")
    verify.add_argument("paths", nargs="+", metavar="PATH", help="source files or folders")
    fetch, describe = _fetch(actions), _describe(actions)
    build, metaorders = _build(actions), _metaorders(actions)
    for each in (convert, verify):
        each.add_argument(
            "-o", "--option", dest="options", action="append", default=[], metavar="NAME=VALUE",
            help="an option of the source's reader, such as instrument=ESH4",
        )  # fmt: skip
    for each in (listing, convert, verify, fetch, describe, build, metaorders):
        _json(each)


def _build(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    sub = _add(actions, "build", "build an embedded data set now, with more days if asked")
    sub.set_defaults(call="data_build")
    sub.add_argument("dataset", nargs="?", default="reference", metavar="DATASET", help="default: %(default)s")
    sub.add_argument(
        "--days", type=int, metavar="N", help="so many days, kept beside the standard ones as DATASET,days=N"
    )
    return sub


def _metaorders(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    sub = _add(actions, "metaorders", "list the large orders behind the flow of an embedded market")
    sub.set_defaults(call="data_metaorders")
    sub.add_argument("dataset", nargs="?", default="reference", metavar="DATASET", help="default: %(default)s")
    sub.add_argument("--split", default="test", help="train, validation, test, or all (default: %(default)s)")
    sub.add_argument("-o", "--output", metavar="FILE", help="write all of them to FILE, .csv or .parquet")
    return sub


def _describe(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    sub = _add(actions, "describe", "measure what a data set looks like, beside real days")
    sub.set_defaults(call="data_describe")
    sub.add_argument("dataset", metavar="DATASET", help="name or folder of a data set")
    sub.add_argument(
        "--beside",
        nargs="*",
        metavar="DATASET",
        help="print these beside it, or nothing (default: the stored real days)",
    )
    sub.add_argument("--split", default="test", help="train, validation, test, or all (default: %(default)s)")
    sub.add_argument("--days", type=int, metavar="N", help="only the first N days of each instrument")
    sub.add_argument("-o", "--output", metavar="DIR", help="also write the page there, as HTML and as Markdown")
    sub.add_argument("--store", metavar="FILE", help="also keep the figures in FILE, a file of descriptions")
    return sub


def _fetch(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    sub = _add(actions, "fetch", "download public sample files from their publisher")
    sub.set_defaults(call="data_fetch")
    sub.add_argument("source", metavar="SAMPLE", help="which samples: lobster-sample, or one of your settings file")
    sub.add_argument("--ticker", nargs="+", action="extend", metavar="TICKER", help="instruments (default: GOOG)")
    sub.add_argument("--levels", type=int, metavar="N", help="published levels (default: 10)")
    sub.add_argument("--out", metavar="DIR", help="folder (default: downloads/SAMPLE in the data home)")
    sub.add_argument("--accept-terms", action="store_true", help="accept the publisher's terms, which are shown")
    sub.add_argument("--convert", action="store_true", help="also convert each file to a data set")
    sub.add_argument("--url", metavar="TEMPLATE", help="another address, with {TICKER} and {LEVELS}")
    sub.add_argument("--sha256", metavar="HEX", help="checksum of the file, instead of the known one")
    sub.add_argument("--allow-unverified", action="store_true", help="accept a file whose checksum nobody knows")
    sub.add_argument(
        "--settings", metavar="FILE", help="TOML file with addresses and checksums (or MARSBENCH_FETCH_SETTINGS)"
    )
    sub.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="default: %(default)s")
    sub.add_argument("--retries", type=int, default=5, metavar="N", help="default: %(default)s")
    return sub


def _train(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sub = _add(verbs, "train", "train or fit a generator; goes on where it was interrupted")
    sub.add_argument("gen", metavar="GEN", help="generator")
    sub.add_argument("-d", "--dataset", default="reference", metavar="DATASET", help="default: %(default)s")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the training (default: %(default)s)")
    sub.add_argument("--fresh", action="store_true", help="train anew, whatever is finished or was interrupted")
    sub.add_argument(
        "--ship", metavar="DIR", help="also write the artifact to DIR, its weights as float16, and use that one"
    )
    sub.add_argument("--no-track", dest="track", action="store_false", help="do not log to MLflow")
    _results(sub)
    _json(sub)


def _validate(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sub = _add(verbs, "validate", "hold a generator to its contract, or say what files:DIR holds")
    sub.add_argument("gens", nargs="+", metavar="GEN", help="generators")
    sub.add_argument("-d", "--dataset", default="reference", metavar="DATASET", help="default: %(default)s")
    sub.add_argument("--seed", type=int, default=0, help="seed of the fit (default: %(default)s)")
    _results(sub)
    _json(sub)


def _track(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sub = _add(verbs, "track", "upload results to MLflow that are not there yet")
    _results(sub)
    _json(sub)


if __name__ == "__main__":
    sys.exit(main())

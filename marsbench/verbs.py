"""What each verb of the command line does: call the library, print, return an exit code."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marsbench import leaderboard_text as text
from marsbench import progress, registry
from marsbench.files import file_safe, require_writable, write_atomic
from marsbench.leaderboard import Leaderboard, build, load
from marsbench.leaderboard import leaderboards as boards_of
from marsbench.ranking import Verdict
from marsbench.results import Result


def _command(options: argparse.Namespace) -> str:
    return shlex.join(["marsbench", *options.argv])


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def _print_rows(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """An aligned table; the last column may be long."""
    lines = [list(columns)] + [[_word(row.get(c)) for c in columns] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value in (None, "") else str(value)


def _plan(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments that ``run`` and ``score`` share."""
    from marsbench import suite

    return {
        "generators": options.generators,
        "tasks": options.tasks,
        "datasets": options.datasets,
        "seeds": options.seeds,
        "suite": suite.read(options.suite) if options.suite else None,
        "results": options.results,
        "limit": options.limit,
        "track": options.track,
        "command": _command(options),
    }


def run(options: argparse.Namespace) -> int:
    """Run what is missing, rank, and say where everything is."""
    from marsbench import runner
    from marsbench.tracking import tracking_uri

    report = runner.run(**_plan(options), jobs=options.jobs, overwrite=options.overwrite)
    pages: list[Path] = []
    for dataset in report.suite.datasets:
        pages += _rank(report, dataset)
    print(report.summary())
    for path in pages:
        print(f"leaderboard: {path}")
    if options.track:
        uri = tracking_uri(options.results)
        print(f"MLflow store: {uri} (look at it with: mlflow ui --backend-store-uri {uri})")
    return 1 if report.failed else 0


def _rank(report: Any, dataset: str) -> list[Path]:
    """Print the leaderboard of a data set and write its pages; a refusal is printed, the results stay."""
    from marsbench.data.catalogue import open_dataset

    folder, limit = report.folder, report.suite.limit
    name = open_dataset(dataset).name
    asked = [e for e in report.suite.generators if e.instance is not None or _hidden(e)]
    try:
        board = build(load(folder, dataset=name, limit=limit)[name], controls=bool(asked), missing="drop")
        print(text.to_table(board), end="\n\n")
        return write_pages(board, folder)
    except (ValueError, FileNotFoundError) as error:
        print(f"leaderboard of {name}: {error}", file=sys.stderr)
        return []


def _hidden(entrant: Any) -> bool:
    return bool(registry.lookup("generators", entrant.spec.name).hidden)


def write_pages(board: Leaderboard, folder: str | Path, *, figures: bool = True) -> list[Path]:
    """Write ``leaderboard-<dataset>.html`` and ``.md``, and of several tasks one ``.md`` each; returns their paths."""
    from marsbench.page import to_html

    progress.say("drawing the leaderboard page")
    html = to_html(board, cache=Path(folder) / "cache" / "figures", draw=figures)
    written = [write_atomic(_page(folder, board, ".html"), html), _write_markdown(board, folder)]
    if len(board.tasks) == 1:
        return written
    name = board.dataset["name"]
    found = load(folder, dataset=name, seeds=board.seeds, limit=board.limit)[name]
    for task in board.tasks:
        own = [result for result in found if result.task["label"] == task]
        written.append(_write_markdown(build(own, controls=True, missing="drop"), folder, task))
    return written


def _page(folder: str | Path, board: Leaderboard, suffix: str, task: str = "") -> Path:
    """Where a page of a data set stands, or that of one of its tasks."""
    words = ["leaderboard", board.dataset["name"], task, f"limit{board.limit}" if board.limit else ""]
    return Path(folder) / ("-".join(file_safe(word) for word in words if word) + suffix)


def _write_markdown(board: Leaderboard, folder: str | Path, task: str = "") -> Path:
    return write_atomic(_page(folder, board, ".md", task), text.to_markdown(board))


def score(options: argparse.Namespace) -> int:
    """Score stored trajectories again."""
    from marsbench import results, runner

    options.generators = [*(options.generators or []), *options.gens] or None
    if options.generators and options.tasks and not options.datasets:
        code = _score_folders(options)
        if code is not None:
            return code
    report = runner.score(**_plan(options))
    if options.json:
        found = [results.read(path) for path in report.paths]
        _print_json([_scored(r) for r in found])
    else:
        for path in report.done:
            result = results.read(path)
            print(result.unit)
            _print_scores([s.to_dict() for s in result.scores.values()], Verdict.of(result.scores))
        print(report.summary())
    return 1 if report.failed else 0


def _scored(result: Result) -> dict[str, Any]:
    validity = Verdict.of(result.scores)
    return {
        "unit": result.unit, "status": result.status, "reason": result.reason,
        "validity": validity.to_dict() if validity else None, "scores": result.to_dict()["scores"],
    }  # fmt: skip


def _print_scores(rows: Sequence[dict[str, Any]], validity: Verdict | None) -> None:
    if validity:
        print(validity)
    _print_rows([{k: text.number_text(v) for k, v in r.items()} for r in rows], _SCORE_COLUMNS)


def _score_folders(options: argparse.Namespace) -> int | None:
    """Score folders that bring their own real data; None where these are none, 1 where nothing could be compared."""
    from marsbench import folder_scores

    found = folder_scores.matching(options.generators, options.tasks)
    made = [folder_scores.score_folder(one, task, seed) for one, task in found for seed in options.seeds or [0]]
    if not made:
        return None
    if options.json:
        _print_json([each.to_dict() for each in made])
    for each in [] if options.json else made:
        print("\n".join([each.unit, *each.notes]))
        _print_scores(each.scores, each.validity)
    return 1 if any(each.reason for each in made) else 0


_SCORE_COLUMNS = ("key", "value", "ci_low", "ci_high", "floor", "ceiling", "normalised", "n", "clusters", "reason")


def leaderboard(options: argparse.Namespace) -> int:
    """Rank the results."""
    boards = boards_of(
        options.results,
        dataset=options.dataset,
        tasks=options.tasks,
        seeds=options.seeds,
        limit=options.limit,
        controls=options.controls,
        missing=options.missing,
    )
    if options.format == "html":
        _write_html(boards, options)
        return 0
    if options.format == "pages":
        for board in boards:
            print(*write_pages(board, options.results, figures=options.figures), sep="\n")
        return 0
    if options.format == "json":
        content = text.to_json(boards) + "\n"
    elif options.format == "md":
        content = "\n".join(text.to_markdown(board) for board in boards)
    else:
        content = "\n\n".join(text.to_table(board) for board in boards) + "\n"
    if options.output:
        print(write_atomic(options.output, content))
    else:
        print(content, end="")
    return 0


def compare(options: argparse.Namespace) -> int:
    """Test the differences between two generators on every data set that holds both."""
    from marsbench import comparison

    found = load(
        options.results, dataset=options.dataset, tasks=options.tasks, seeds=options.seeds, limit=options.limit
    )
    wanted = {options.a, options.b}
    both = {name: own for name, own in found.items() if wanted <= {r.generator["label"] for r in own}}
    if not both:  # one data set gives the message that names what there is
        both = dict([max(found.items(), key=lambda item: len(wanted & {r.generator["label"] for r in item[1]}))])
    made = [comparison.compare(own, options.a, options.b, missing=options.missing) for _, own in sorted(both.items())]
    if options.json:
        _print_json({"comparisons": [one.to_dict() for one in made]})
    else:
        print("\n\n".join(map(comparison.to_text, made)))
    return 0


def _write_html(boards: Sequence[Leaderboard], options: argparse.Namespace) -> None:
    from marsbench.page import to_html

    if options.output and len(boards) > 1:
        raise ValueError(f"--output takes one page, there are {len(boards)} data sets; name one with --dataset")
    for board in boards:
        target = options.output or _page(options.results, board, ".html")
        cache = Path(options.results) / "cache" / "figures"
        print(write_atomic(target, to_html(board, cache=cache, draw=options.figures)))


def reproduce(options: argparse.Namespace) -> int:
    """Print what a paper published beside what the result files say; of ``all``, whatever can be made."""
    from marsbench import reproduce as items
    from marsbench.data.catalogue import open_dataset

    dataset, found, lacking = open_dataset(options.dataset).name, [], []
    for name in items.wanted(options.items):
        try:
            found += items.reproduce(
                [name],
                dataset=dataset,
                generators=options.generators or (),
                task=options.task,
                results=options.results,
                limit=options.limit,
                command=_command(options),
            )
        except (ValueError, FileNotFoundError) as error:
            if items.ALL not in options.items:
                raise
            lacking.append(str(error))
    if options.json:
        _print_json([one.to_dict() for one in found])
    else:
        print(items.to_text(found), end="")
    if options.output and found:
        progress.say(f"reproduction: {items.write(found, options.output)}")
    for problem in lacking:
        progress.say(f"left out: {problem}")
    return 1 if lacking else 0


def check(options: argparse.Namespace) -> int:
    """Draw processes whose answer is known; 1 where a verdict or an interval may not be trusted."""
    from marsbench import check as checking

    if options.output:
        require_writable(options.output)  # before hours of drawing
        checking.require_alike(options.output, options.metric, options.seeds, options.process)
    found = checking.check(
        options.metric, seeds=options.seeds, processes=options.process, jobs=options.jobs, command=_command(options)
    )
    if options.json:
        _print_json(found.to_dict())
    else:
        print(checking.to_text(found), end="")
    if options.output:
        for path in checking.write(checking.merged(found, options.output), options.output):
            progress.say(f"check: {path}")
    return 0 if found.trusted else 1


def list_(options: argparse.Namespace) -> int:
    """List plug-ins or data sets."""
    if options.what == "datasets":
        return data_list(options)
    if options.what == "quantities":
        return _quantities(options)
    rows = registry.describe(options.what)
    columns = {
        "generators": ("name", "version", "kind", "reacts", "hidden", "summary"),
        "metrics": ("name", "version", "evidence", "summary"),
        "tasks": ("name", "version", "kinds", "evidence", "conditions", "summary"),
    }[options.what]
    if options.json:
        _print_json(rows)
    else:
        _print_rows(rows, columns)
    return 0


def _quantities(options: argparse.Namespace) -> int:
    from marsbench import quantities

    rows = quantities.describe()
    if options.json:
        _print_json(rows)
    else:
        _print_rows(rows, ("name", "unit", "table7", "from", "summary"))
    return 0


def data_list(options: argparse.Namespace) -> int:
    """List the data sets."""
    from marsbench.data.catalogue import list_datasets

    rows = [info.to_dict() for info in list_datasets()]
    if options.json:
        _print_json(rows)
    else:
        _print_rows(rows, ("name", "version", "kind", "days", "folder", "summary"))
    return 0


def data_build(options: argparse.Namespace) -> int:
    """Build an embedded data set."""
    from marsbench.data.catalogue import EMBEDDED, open_dataset

    name = options.dataset + (f",days={options.days}" if options.days is not None else "")
    if name.split(",")[0] not in EMBEDDED:
        raise ValueError(f"{options.dataset!r} is not an embedded data set; there are {', '.join(sorted(EMBEDDED))}")
    made = open_dataset(name)
    if options.json:
        _print_json({"name": made.name, "folder": str(made.folder), "content_hash": made.content_hash})
    else:
        print(f"data set {made.name}: {made.folder}\n{made.summary}\ncontent hash {made.content_hash}")
    return 0


def data_metaorders(options: argparse.Namespace) -> int:
    """List metaorders: a table by instrument, or all of them as JSON or into a file."""
    from marsbench.data import metaorders
    from marsbench.data.catalogue import open_dataset

    data = open_dataset(options.dataset)
    found = metaorders.of_split(data, options.split)
    if options.output:
        progress.say(f"{len(found)} metaorders: {metaorders.write(found, options.output)}")
    if options.json:
        _print_json(metaorders.records(found))
    elif not options.output:
        _print_rows(metaorders.summary(found), metaorders.COLUMNS)
    return 0


def data_convert(options: argparse.Namespace) -> int:
    """Convert source files to a data set."""
    from marsbench.data.convert import Split, convert

    given = {"train_until": options.train_until, "embargo_minutes": options.embargo}
    split = Split(**{k: v for k, v in given.items() if v is not None})
    made = convert(
        options.paths,
        name=options.name,
        out=options.out,
        summary=options.summary,
        split=split,
        replace=options.replace,
        **_reader_options(options),
    )
    if options.json:
        _print_json(made.to_dict())
    else:
        print(f"data set {made.name}: {made.folder}")
        print("\n".join(f"  {period}" for period in made.periods))
        print(f"content hash {made.content_hash}")
    return 0


def data_fetch(options: argparse.Namespace) -> int:
    """Download public sample files, and convert them if asked."""
    from marsbench.data import fetch
    from marsbench.data.download import Line

    found = fetch.fetch(
        options.source,
        tickers=options.ticker,
        levels=options.levels,
        out=options.out,
        url=options.url,
        sha256=options.sha256,
        allow_unverified=options.allow_unverified,
        accept=lambda terms: _accepted(terms, options.accept_terms),
        settings_file=options.settings,
        line=Line(timeout_s=options.timeout, retries=options.retries),
    )
    names = [fetch.dataset_name(each.path) for each in found]
    if options.json:
        _print_json([each.to_dict() for each in found])
    else:
        for each, name in zip(found, names, strict=True):
            state = "verified" if each.verified else "NOT VERIFIED: no checksum is known"
            print(f"{each.path}: {each.size_bytes} bytes, {'' if each.received_bytes else 'there already, '}{state}")
            print(f"  SHA-256 {each.sha256}")
            if not options.convert:
                print(f"  convert it: {shlex.join(['marsbench', 'data', 'convert', str(each.path), '--name', name])}")
    if options.convert:
        from marsbench.data.convert import convert

        for each, name in zip(found, names, strict=True):
            made = convert(each.path, name=name)
            if not options.json:
                print(f"data set {made.name}: {made.folder}")
    return 0


def _accepted(terms: str, given: bool) -> bool:
    """Show a publisher's terms; ask on a terminal unless they are accepted already."""
    print(terms, file=sys.stderr)
    if given or not sys.stdin.isatty():
        return given
    print("Accept and download? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def data_verify(options: argparse.Namespace) -> int:
    """Replay files and compare with what the exchange published; 1 where anything is unexplained."""
    from marsbench.data.verify import verify

    found = [verify(path, **_reader_options(options)).to_dict() for path in options.paths]
    if options.json:
        _print_json(found[0] if len(found) == 1 else found)
    else:
        for facts in found:
            print(facts.pop("file"))
            for key, value in facts.items():
                print(f"  {key.replace('_', ' ')}: {_fact(value)}")
    return 1 if any(facts["unexplained"] for facts in found) else 0


def _reader_options(options: argparse.Namespace) -> dict[str, Any]:
    """What ``--option NAME=VALUE`` asks of the reader of a source."""
    pairs = [text.partition("=") for text in options.options]
    for name, equals, _ in pairs:
        if not name.isidentifier() or not equals:
            raise ValueError(f"--option {name + equals!r}: write NAME=VALUE, such as instrument=ESH4")
    return {name: value for name, _, value in pairs}


def data_describe(options: argparse.Namespace) -> int:
    """Measure a data set; print it beside others, write its page, keep its figures."""
    from marsbench import description, description_page
    from marsbench.data.catalogue import open_dataset
    from marsbench.describe import beside, describe

    dataset = open_dataset(options.dataset)
    names = options.beside if options.beside is not None else [n for n in description.stored() if n != dataset.name]
    found = describe(dataset, split=options.split, days=options.days, command=_command(options))
    if options.store:
        description.store(found, options.store)
    others = beside(names) if options.output or not options.json else []
    if options.json:
        _print_json(found.to_dict())
    else:
        print(description_page.to_text(found, others), end="")
    if options.output:
        for path in description_page.write(found, others, options.output):
            progress.say(f"description: {path}")
    return 0


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
    return _word(list(value) if isinstance(value, tuple) else value)


def train(options: argparse.Namespace) -> int:
    """Train a generator, and say where its artifact is."""
    from marsbench.train import is_main, leave_others
    from marsbench.train import train as trained

    report = trained(
        options.gen,
        options.dataset,
        seed=options.seed,
        results=options.results,
        fresh=options.fresh,
        ship=options.ship,
        track=options.track,
        command=_command(options),
    )
    if options.json and is_main():
        _print_json(report.to_dict())
    elif is_main():
        print(f"{report.generator} on {report.dataset}, seed {report.seed}: {report.artifact.folder}")
    leave_others()
    return 0


def validate(options: argparse.Namespace) -> int:
    """Hold generators to the contract of sessions or price paths; of simulations made elsewhere, say what they hold."""
    from marsbench.runner import validate as check

    reports = [check(spec, options.dataset, results=options.results, seed=options.seed) for spec in options.gens]
    if options.json:
        rows = [report.to_dict() for report in reports]
        _print_json(rows[0] if len(rows) == 1 else rows)
    else:
        print("\n\n".join(map(str, reports)))
    return 0 if all(report.passed for report in reports) else 1


def track(options: argparse.Namespace) -> int:
    """Upload results to MLflow that are not there yet."""
    from marsbench import tracking

    report = tracking.track(options.results)
    if options.json:
        _print_json(report.to_dict())
    else:
        print(f"{report.uri}: {len(report.uploaded)} uploaded, {len(report.present)} there already")
        for path, why in report.failed.items():
            print(f"failed: {path}: {why}", file=sys.stderr)
    return 1 if report.failed else 0

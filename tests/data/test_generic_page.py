"""The page on the generic reader: its example is read and converted, and every error is worded as it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pages import block, error_table

from marsbench.cli import main
from marsbench.data import generic
from marsbench.data.catalogue import open_dataset
from marsbench.data.errors import DataError
from marsbench.data.generic_mapping import _KEYS
from marsbench.data.verify import verify
from marsbench.market.orders import Kind

PAGE = "generic.md"
YAML, CSV = block(PAGE, "yaml"), block(PAGE, "csv")


def write(folder: Path, yaml: str = YAML, csv: str = CSV) -> Path:
    (folder / "acme.csv").write_text(csv)
    (folder / "acme.yaml").write_text(yaml)
    return folder / "acme.yaml"


def test_the_example_is_read_as_the_page_says(tmp_path):
    day = generic.read(write(tmp_path))
    assert [(o["kind"], o["price_ticks"], o["size_shares"]) for o in day.orders] == [
        (Kind.ASK, 10002, 200),
        (Kind.ASK, 10003, 400),
        (Kind.BID, 10002, 600),  # two executions and the rest
        (Kind.CANCEL, 10003, 150),
        (Kind.CANCEL, 9998, 200),
        (Kind.CANCEL, 0, 0),
    ]
    assert day.orders["time_ns"][0] == 34_200 * 10**9 + 125
    assert len(day.book.resting) == 2
    result = verify(tmp_path / "acme.yaml")
    assert (result.unexplained, result.trades, result.facts["trade_rows"]) == (0, 2, 1)
    for path in (tmp_path, tmp_path / "acme.csv"):
        assert verify(path) == result


def test_the_commands_of_the_page_run(tmp_path, monkeypatch, capsys):
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MARSBENCH_DATA_HOME", str(tmp_path / "home"))
    commands = block(PAGE, "sh").splitlines()
    assert len(commands) == 2
    for command in commands:
        assert main(command.split()[1:]) == 0
    assert "unexplained: 0" in capsys.readouterr().out
    assert len(open_dataset("acme").day("ACME", "2024-03-05").fills) == 2


def test_the_page_lists_every_key():
    text = (Path(__file__).resolve().parents[2] / "docs" / "sources" / PAGE).read_text()
    table = text.split("## The keys")[1].split("## How it maps")[0]
    named = {word for code in re.findall(r"`([^`]+)`", table) for word in re.split(r"[ .]", code)}
    assert {key for keys in _KEYS.values() for key in keys} <= named


Change = Callable[[str], str]


def yaml(old: str, new: str) -> Callable[[Path], None]:
    assert old in YAML
    return lambda folder: write(folder, yaml=YAML.replace(old, new)) and None


def line(number: int, old: str, new: str) -> Callable[[Path], None]:
    """Change one line of the table."""
    lines = CSV.splitlines(keepends=True)
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new)
    return lambda folder: write(folder, csv="".join(lines)) and None


def csv(change: Change) -> Callable[[Path], None]:
    return lambda folder: write(folder, csv=change(CSV)) and None


def swapped(text: str) -> str:
    lines = text.splitlines(keepends=True)
    lines[4], lines[8] = lines[8], lines[4]
    return "".join(lines)


def parquet(price: object) -> Callable[[Path], None]:
    """The same table as Parquet, its prices floats, one of them changed."""

    def make(folder: Path) -> None:
        write(folder, yaml=YAML.replace("acme.csv", "acme.parquet"))
        table = pa.csv.read_csv(
            folder / "acme.csv",
            convert_options=pa.csv.ConvertOptions(column_types={"price": pa.float64(), "timestamp": pa.string()}),
        )
        prices = table["price"].to_pylist()
        prices[2] = price
        at = table.schema.get_field_index("price")
        pq.write_table(table.set_column(at, "price", pa.array(prices, pa.float64())), folder / "acme.parquet")
        (folder / "acme.csv").unlink()

    return make


def remove(folder: Path) -> None:
    write(folder)
    (folder / "acme.csv").unlink()


def no_parquet(folder: Path) -> None:
    write(folder, yaml=YAML.replace("acme.csv", "acme.parquet"))
    (folder / "acme.csv").rename(folder / "acme.parquet")


def two(folder: Path) -> None:
    write(folder)
    (folder / "b.yaml").write_text(YAML)


CASES: dict[str, Callable[[Path], None]] = {
    "a key that does not exist": yaml("files:", "file:"),
    "a key that does not exist, deeper": yaml("zone:", "timezone:"),
    "a key twice": yaml("date: 2024-03-05", "date: 2024-03-05\ndate: 2024-03-06"),
    "not YAML": yaml("sides: {", "sides: {{"),
    "no instrument": yaml("instrument: ACME\n", ""),
    "a date of another form": yaml("2024-03-05", "05.03.2024"),
    "a column not mapped": yaml("side: side, ", ""),
    "a value for two actions": yaml("HIDDEN", "FILL"),
    "rules that do not exist": yaml("rules: NASDAQ", "rules: NYSE"),
    "no rules": yaml("rules: NASDAQ\n", ""),
    "sessions of another form": yaml("rules: NASDAQ", "rules: NASDAQ\nsessions: [09:30, 16:00]"),
    "a tick that is no number": yaml("rules: NASDAQ", "rules: NASDAQ\ntick_size: penny"),
    "a time format that does not exist": yaml("format: iso", "format: seconds"),
    "no zone": yaml(", zone: America/New_York", ""),
    "a zone that does not exist": yaml("America/New_York", "New York"),
    "numbers since 1970 without a zone": yaml("{format: iso, zone: America/New_York}", "{format: ns, since: epoch}"),
    "two YAML files in a folder": two,
    "no table": remove,
    "an empty table": csv(lambda text: ""),
    "only a header": csv(lambda text: text.splitlines()[0] + "\n"),
    "a column that is not there": csv(lambda text: text.replace("quantity", "qty")),
    "a row cut off": csv(lambda text: text[:-3]),
    "a field too many": line(4, "200", "200,1"),
    "not Parquet": no_parquet,
    "an action that is not mapped": line(9, "CHANGE", "AMEND"),
    "a side that is not mapped": line(5, "SELL", "OFFER"),
    "a price off the tick": line(4, "100.02", "100.025"),
    "a price that is no number": line(4, "100.02", "market"),
    "a new order without price": line(4, "100.02", ""),
    "a new order without side": line(4, "SELL", ""),
    "a float price off the tick": parquet(0.1 + 0.2),
    "a price too large": line(4, "100.02", "99999999.00"),
    "a size that is not whole": line(4, "200", "0.5"),
    "a size of zero": line(4, "200", "0"),
    "no order id": line(4, "a3", ""),
    "no time": line(4, "2024-03-05T14:30:00.000000125Z", ""),
    "a time of another form": line(4, "2024-03-05T14:30:00.000000125Z", "14:30"),
    "a row of another day": csv(lambda text: text + "2024-03-06T14:30:00.000000000Z,ADD,a9,BUY,1.00,1\n"),
    "rows out of order": csv(swapped),
    "no row in the session": yaml("America/New_York", "Asia/Shanghai"),
    "a book crossed at the open": line(2, "99.98", "100.05"),
    "another symbol": lambda folder: write(
        folder, yaml=YAML.replace("size: quantity", "size: quantity, symbol: side") + "symbol: XYZ\n"
    ) and None,
}  # fmt: skip


def message(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        generic.read(folder / "acme.yaml" if not (folder / "b.yaml").exists() else folder)
    return str(caught.value)


@pytest.mark.parametrize("what", CASES)
def test_an_error_case_gives_the_message_of_the_page(tmp_path, what):
    folder = tmp_path / "acme"
    folder.mkdir()
    CASES[what](folder)
    assert message(folder) == error_table(PAGE)[what]


def test_the_page_lists_these_error_cases_and_no_other():
    assert list(error_table(PAGE)) == list(CASES)

"""The contracts that generators and agents fulfil.

A generator simulates many rows at once: row = start * rollouts + rollout. Deciding *when* the
next market event comes and deciding *what* it is are two calls, because somebody else (an agent)
may act in between and the second decision must see the book as it then is.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from marsbench.market.books import Market
from marsbench.market.orders import ORDER
from marsbench.market.orders import Kind as OrderKind
from marsbench.market.rules import MatchingRules, clock_text
from marsbench.market.trajectory import BookState, Trajectory

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset
    from marsbench.market.clearing_house import BookView, Events
    from marsbench.questions import Question

NEVER = int(np.iinfo(np.int64).max)
"""A proposal that means: no further event."""

ORACLE = "reference"
"""The one generator whose starts carry the hidden state of the market (``Start.oracle``)."""

Rows = NDArray[np.int64]
"""Row numbers, ``[k]``, ascending."""


class Kind(StrEnum):
    """What a generator can do; a task says which kinds it takes."""

    SESSION = "session"
    """Simulates order by order; agents can take part."""
    TRAJECTORIES = "trajectories"
    """Files that were made elsewhere."""
    PATHS = "paths"
    """Price paths only."""
    FORECAST = "forecast"
    """Class probabilities only."""


@dataclass(frozen=True)
class Start:
    """A point of a real (or reference) market from which simulations depart.

    ``clock_ns`` lies on a clock minute. Everything here was known at that time.
    """

    instrument: str
    date: str
    rules: MatchingRules
    clock_ns: int
    book: BookState
    history: Trajectory
    """The starting sequence x_0..x_m: the market from the open (or less) up to ``clock_ns``."""
    cluster: str = ""
    """Unit of inference that this start belongs to (day x instrument; on a single day a 25-minute block)."""
    oracle: Any = None
    """Hidden state of the market, filled for the generator ``reference`` alone."""
    arm: int = 0
    """Number of the arm, where an experiment simulates the same start several times side by side. Arms share their
    random numbers: what differs between them is what agents do."""

    @property
    def uid(self) -> int:
        """32-bit identity, independent of which other starts are simulated beside this one."""
        return zlib.crc32(self.name.encode())

    @property
    def name(self) -> str:
        return f"{self.instrument} {self.date} {clock_text(self.clock_ns)}"

    @property
    def mid_ticks(self) -> float:
        """(Best ask + best bid) / 2 in ticks; where a side is empty, the price of the last trade."""
        price, kind = self.book.resting["price_ticks"].astype(np.float64), self.book.resting["kind"]
        asks, bids = price[kind == OrderKind.ASK], price[kind == OrderKind.BID]
        return float((asks.min() + bids.max()) / 2) if len(asks) and len(bids) else float(self.book.last_trade_ticks)


@dataclass(frozen=True)
class RowOrders:
    """Orders for some rows; several for one row stand in the order in which they are sent."""

    rows: Rows
    """``[k]``, which row each order is for, ascending."""
    orders: NDArray[np.void]
    """``ORDER`` array ``[k]``; time and owner are filled in by the rollout."""

    @classmethod
    def none(cls) -> RowOrders:
        return cls(np.zeros(0, np.int64), np.zeros(0, ORDER))


class Session(ABC):
    """A simulation under way. Rows are independent of each other: no row's future depends on which
    other rows run beside it, up to floating-point results of a fixed work chunk."""

    @abstractmethod
    def propose(self, rows: Rows, book: BookView) -> NDArray[np.int64]:
        """When each row's next market event comes: clock ns ``[k]``, not before now; ``NEVER`` ends it.

        Asked at the start, after each of the row's own events, and after it was withdrawn.
        A proposal that falls into a break (lunch) is moved by the length of the break, so that a
        waiting time that is added to the clock of now comes out right.
        """

    @abstractmethod
    def decide(self, rows: Rows, book: BookView) -> RowOrders:
        """The orders that are due now, on the book as it is now; may be none."""

    @abstractmethod
    def observe(self, events: Events) -> Rows:
        """Take note of everything that happened (agents' orders too, rejected ones included).

        Returns the rows whose pending proposal is withdrawn; they are asked to propose again.
        """

    def notes(self) -> Mapping[str, float]:
        """What the session says about itself when it is over, per order or as shares: goes into the result."""
        return {}


REPORT = "report.md"
"""How a fit went, for readers: a fit may leave it in its artifact, and the card of a shipped one ends with it."""


@dataclass(frozen=True)
class Artifact:
    """What fitting leaves behind: a folder, with which days it saw and a hash of its content."""

    folder: Path
    content_hash: str
    generator: str
    version: int
    seed: int
    trained_on: tuple[str, ...]
    """Each period that was seen, as ``instrument date HH:MM:SS-HH:MM:SS``."""
    data_hash: str
    dataset_hash: str = ""
    """``Dataset.content_hash`` of the whole data set, where that is known."""
    key: str = ""
    """Of a trained or shipped one: what it was made as (``marsbench.fitting``: ``training_key``, ``artifact_key``)."""
    notes: tuple[str, ...] = ()
    """What whoever uses it should know, one sentence each; said when it is fitted, and on the card of a shipped one."""

    @classmethod
    def write(
        cls,
        folder: Path,
        *,
        generator: str,
        version: int,
        seed: int,
        data: Iterable[Trajectory],
        dataset_hash: str = "",
        key: str = "",
        notes: Sequence[str] = (),
    ) -> Artifact:
        """Seal a folder that holds the fitted files: hash them and write ``artifact.json`` beside them.

        ``data`` is gone through once, so that it may be read period by period.
        """
        periods, digest = [], hashlib.sha256()
        for t in data:
            periods.append(f"{t.instrument} {t.date} {clock_text(t.start_ns)}-{clock_text(t.end_ns)}")
            digest.update(t.content_hash().encode())
        folder = Path(folder)
        artifact = cls(
            folder=folder,
            content_hash=cls._hash(folder),
            generator=generator,
            version=version,
            seed=seed,
            trained_on=tuple(periods),
            data_hash=digest.hexdigest(),
            dataset_hash=dataset_hash,
            key=key,
            notes=tuple(notes),
        )
        artifact.seal()
        return artifact

    def seal(self) -> None:
        """Write ``artifact.json``; fields that are not known are left out."""
        head = {name: value for name, value in vars(self).items() if name not in ("folder", "notes") and value != ""}
        head |= {"notes": self.notes} if self.notes else {}
        temporary = self.folder / f".artifact.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(head, indent=1))
        os.replace(temporary, self.folder / "artifact.json")

    def resealed(self, folder: Path) -> Artifact:
        """The same facts, sealed over the files that now lie in another folder."""
        copy = replace(self, folder=folder, content_hash=self._hash(folder))
        copy.seal()
        return copy

    @classmethod
    def read(cls, folder: str | Path) -> Artifact:
        """Open a sealed folder.

        Raises
        ------
        FileNotFoundError
            If it was never sealed.
        ValueError
            If its files are not those that were sealed.
        """
        folder = Path(folder)
        path = folder / "artifact.json"
        if not path.exists():
            raise FileNotFoundError(f"{folder}: no artifact.json; fit the generator first")
        head = json.loads(path.read_text())
        if cls._hash(folder) != head["content_hash"]:
            raise ValueError(f"{folder}: files differ from those that were fitted; fit again or restore them")
        return cls(
            folder=folder,
            content_hash=head["content_hash"],
            generator=head["generator"],
            version=head["version"],
            seed=head["seed"],
            trained_on=tuple(head["trained_on"]),
            data_hash=head["data_hash"],
            dataset_hash=head.get("dataset_hash", ""),
            key=head.get("key", ""),
            notes=tuple(head.get("notes", ())),
        )

    @staticmethod
    def _hash(folder: Path) -> str:
        digest = hashlib.sha256()
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "artifact.json"):
            if path.name.startswith("."):
                continue
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Budget:
    """How much work fitting may do; a generator uses what it understands."""

    cpu_seconds: float | None = None
    tokens: int | None = None


ROWS_TOGETHER = 128
"""So many rows of a simulation are simulated side by side, so that they share the work of a step."""


class Generator(ABC):
    """Base of every adapter. Subclasses state what they are in class variables."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    kind: ClassVar[Kind]
    reacts: ClassVar[bool] = False
    """Whether its flow depends on what agents do to the book."""
    hidden: ClassVar[bool] = False
    """Controls: left out of the leaderboard unless asked for."""
    by_default: ClassVar[bool] = True
    """Whether a run that names no generators takes it; False for what comes without weights, and would only be
    listed as not trained."""
    fits: ClassVar[bool] = True
    """Whether it has anything to learn from training data."""
    checkpoints: ClassVar[Path | None] = None
    """Folder of a package with one sealed artifact per subfolder: those that are shipped with it."""
    training_days: ClassVar[int | None] = None
    """It learns from so many days of each instrument, the latest before the test; None: from all of them."""
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    """Paper or origin."""

    def parameters(self) -> Mapping[str, Any]:
        """Settings that change its behaviour (part of the identity of its results)."""
        return {}


class SessionGenerator(Generator):
    """A generator of kind SESSION."""

    kind = Kind.SESSION

    @abstractmethod
    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        """Learn from training periods; write into ``folder`` and seal it with ``Artifact.write``."""

    @abstractmethod
    def load(self, artifact: Artifact) -> None:
        """Make ready to open sessions."""

    @abstractmethod
    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        """Begin ``len(starts) * rollouts`` rows. ``key`` seeds all randomness, see ``randomness``."""


class PathGenerator(Generator):
    """A generator of kind PATHS: prices at the ends of minutes, and nothing else."""

    kind = Kind.PATHS

    @abstractmethod
    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        """Learn from training periods; write into ``folder`` and seal it with ``Artifact.write``."""

    @abstractmethod
    def load(self, artifact: Artifact) -> None:
        """Make ready to make paths."""

    @abstractmethod
    def paths(self, starts: Sequence[Start], rollouts: int, minutes: int, *, key: int) -> NDArray[np.float64]:
        """Mid prices in ticks at the ends of the minutes of trading after each start.

        Parameters
        ----------
        minutes
            M whole minutes, breaks cut out. The price that a path departs from is ``Start.mid_ticks``.
        key
            Seeds all randomness, see ``randomness``.

        Returns
        -------
        array ``[len(starts), rollouts, minutes]``
            Finite and above 0. A path is a function of key, start and number of the rollout, bit for bit: it depends
            neither on the other starts that are asked for beside it nor on their order.
        """


class ForecastGenerator(Generator):
    """A generator of kind FORECAST."""

    kind = Kind.FORECAST

    @abstractmethod
    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        """Learn from training periods; write into ``folder`` and seal it with ``Artifact.write``."""

    @abstractmethod
    def load(self, artifact: Artifact) -> None:
        """Make ready to forecast."""

    @abstractmethod
    def forecast(self, starts: Sequence[Start], question: Question) -> NDArray[np.float64]:
        """Probabilities of the three classes of each target, ``[len(starts), len(question.targets), 3]``.

        NaN for a target that it does not foretell. Nothing but what was known at a start may go into its forecast.
        """


@dataclass(frozen=True)
class Work:
    """Where and how a generator is trained."""

    scratch: Path
    """Folder of this training alone that survives interruptions; goes when the artifact is finished."""
    cache: Path
    """Folder that all trainings share, for what others can use too (token files, named by content)."""
    key: str
    """What is trained, for ``Artifact.write``."""
    command: str
    """The command that repeats the training, for the model card: without folders of this machine."""
    say: Callable[[str], None]
    on_point: Callable[[int, Mapping[str, float]], None]
    """To be called with a step and the values of the curves there."""
    artifact_of: Callable[..., Artifact | None]
    """``artifact_of(generator)``: the finished artifact of any trained generator on the same data set, of our own or
    shipped; ``artifact_of(generator, dataset)`` on another. None if there is none."""


class Trained(Generator):
    """A generator that ``marsbench train`` trains: never fitted in passing, because that takes hours.

    Among the bases it stands first, ``class Model(Trained, SessionGenerator)``.
    """

    training_version: ClassVar[int] = 1
    """Goes up when training changes what it makes; ``version``, when anything changes a score. A generator that only
    uses its weights in another way keeps them."""

    def training_parameters(self) -> Mapping[str, Any]:
        """Those of ``parameters()`` that change the trained weights (part of the key of the artifact)."""
        return self.parameters()

    @abstractmethod
    def train(self, dataset: Dataset, folder: Path, *, seed: int, work: Work) -> Artifact:
        """Learn from the training periods and choose on the validation periods; seal ``folder``.

        The seal is ``Artifact.write(..., dataset_hash=dataset.content_hash, key=work.key)``.
        """

    @abstractmethod
    def load(self, artifact: Artifact) -> None:
        """Make ready for use."""

    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        """Refuse.

        Raises
        ------
        TypeError
            Always: it is trained, not fitted.
        """
        raise TypeError(f"generator {self.name!r} is not fitted in passing; train it: marsbench train {self.name}")


class TrajectoryGenerator(Generator):
    """A generator of kind TRAJECTORIES."""

    kind = Kind.TRAJECTORIES
    fits = False

    @abstractmethod
    def trajectories(self, start: Start, horizon_ns: int) -> Sequence[Market]:
        """The simulations that were made for this start (any number; none is an empty list).

        A simulation of which only book snapshots are known is a ``BookSeries``.
        """


class Agent(ABC):
    """Somebody who trades beside the generator, in every row. Its orders carry its owner number."""

    owner: int = 1

    @abstractmethod
    def next_wake(self, rows: Rows) -> NDArray[np.int64]:
        """Clock ns at which each row wants to act next; ``NEVER`` for no more."""

    @abstractmethod
    def act(self, rows: Rows, book: BookView) -> RowOrders:
        """Orders to send now; agents act before the market at equal times."""

    @abstractmethod
    def notify(self, events: Events) -> None:
        """All events of all rows, the agent's own fills among them."""


@dataclass(frozen=True)
class AgentFactory:
    """Makes one agent for a batch of rows: ``make(starts, rollouts)``."""

    make: Any
    name: str = "agent"
    parameters: Mapping[str, Any] = field(default_factory=dict)

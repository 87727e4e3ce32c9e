"""Sessions of order models with random weights, far too small to be good, for tests of what sessions do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from markets import start_at, two_days
from marsbench import registry
from marsbench.generators.lmm.order_model import OrderModel
from marsbench.generators.lmm.recipe import ModelConfig, Shape
from marsbench.generators.lmm.session import OrderModelSession
from marsbench.learning.order_stream import OrderStream, order_stream
from marsbench.learning.tokeniser import Tokeniser
from marsbench.learning.vocabulary import SIZES
from marsbench.market.clearing_house import BookView, ClearingHouse
from marsbench.market.orders import MARKET
from marsbench.market.rules import MatchingRules
from marsbench.simulation.contracts import Rows, Start

TINY = Shape(width=16, layers=2, heads=2, kv_heads=1, hidden=24)
KINDS = (("touch", "factorised"), ("paper", "factorised"), ("public", "joint"))
"""Layouts, each with a head."""


def start(text: str = "09:31", profile: int = 0) -> Start:
    """In the morning of a test day."""
    return start_at(two_days(profile, 20)[1], text)


@cache
def training_streams() -> tuple[OrderStream, ...]:
    """A day of each of two instruments, and one more of the first with what that market lacks.

    These are immediate orders and odd sizes.
    """
    first, second = (order_stream(two_days(profile, 20)[0]) for profile in (0, 1))
    chance = np.random.default_rng(0).random(len(first))
    size = first.size_shares + np.where((first.side == 0) & (chance < 0.3), 37, 0)
    return first, second, replace(first, ioc=(first.traded_shares > 0) & (chance < 0.5), size_shares=size)


@cache
def tokeniser(layout: str) -> Tokeniser:
    return Tokeniser.fit(training_streams(), layout)


@cache
def model(layout: str, head: str) -> OrderModel:
    """Random weights under which no type of order is rare."""
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(10)
        made = OrderModel(ModelConfig(TINY, layout, head, groups=2))
        if made.lm_head is not None:  # tokens that share a field have something in common
            table = made.lm_head.weight.data.view(*SIZES, -1)
            for field in range(4):
                shape = [size if axis == field else 1 for axis, size in enumerate(SIZES)]
                table += 0.3 * torch.randn(*shape, TINY.width)
    return made.eval().requires_grad_(False)


def generator(layout: str = "touch", head: str = "factorised", *, context: int = 64, **sampling: Any) -> Any:
    """The generator with such a model, as if it had been trained and loaded."""
    made: Any = registry.generator("lmm-order-1m", layout=layout, head=head, context=context, **sampling)
    made.model, made.tokeniser = model(layout, head), tokeniser(layout)
    return made


@dataclass
class Rollouts:
    """Rows of one start in hand: a session and the books that it sees, to be moved step by step."""

    session: OrderModelSession
    house: ClearingHouse
    start: Start
    now_ns: np.ndarray
    due_ns: np.ndarray
    drawn: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    """Rows, types, price slots and volume slots, at each decision."""

    @classmethod
    def of(cls, made: Any, begin: Start, rows: int, *, key: int = 0) -> Rollouts:
        """The first orders of all rows are due afterwards."""
        house = ClearingHouse(begin.rules.without_auctions(), rows)
        house.load(0, begin.book)
        house.fork(0, np.arange(rows))
        out = cls(made.open([begin], rows, key=key), house, begin, np.full(rows, begin.clock_ns), np.zeros(rows, int))
        out.drawn = draws_of(out.session)
        out.propose(out.rows)
        return out

    @property
    def rules(self) -> MatchingRules:
        return self.start.rules

    @property
    def rows(self) -> Rows:
        return np.arange(len(self.now_ns))

    def view(self, rows: Rows) -> BookView:
        return self.house.view(rows, self.now_ns[rows])

    def propose(self, rows: Rows) -> None:
        self.due_ns[rows] = self.session.propose(rows, self.view(rows))

    def decide(self) -> tuple[Rows, np.ndarray]:
        """What the market sends in each row when it is due; it is not sent yet."""
        self.now_ns = self.due_ns.copy()
        sent = self.session.decide(self.rows, self.view(self.rows))
        return sent.rows, sent.orders

    def send(self, rows: Rows, orders: np.ndarray, owner: int = MARKET) -> Any:
        """Events of orders that are sent now; the session has seen them, and has been asked for its next ones."""
        orders = orders.copy()
        orders["owner"], orders["time_ns"] = owner, self.now_ns[rows]
        events = self.house.submit(rows, orders)
        withdrawn = self.session.observe(events)
        self.propose(np.union1d(rows, withdrawn) if owner == MARKET else withdrawn)
        return events


def draws_of(session: OrderModelSession) -> list[tuple[np.ndarray, ...]]:
    """A list that fills with the rows of each decision, and the types, price slots and volume slots drawn for them."""
    found: list[tuple[np.ndarray, ...]] = []
    marks: Any = session._marks

    def spy(rows: Rows, open_slots: np.ndarray, uniforms: np.ndarray) -> Any:
        out = marks(rows, open_slots, uniforms)
        found.append((rows, *(part.copy() for part in out[:3])))
        return out

    session._marks = spy  # type: ignore[method-assign]
    return found

"""Which orders stand at which price, in queue order, while a LOBSTER file is read."""

from __future__ import annotations

from bisect import bisect_left, insort


class LevelQueues:
    """Queues of both sides as plain dictionaries: order id to size left, oldest first."""

    def __init__(self) -> None:
        self._levels: tuple[dict[int, dict[int, int]], ...] = ({}, {})
        self._prices: tuple[list[int], ...] = ([], [])

    def level(self, side: int, price: int) -> dict[int, int]:
        """The queue at a price; empty where there is none."""
        return self._levels[side].get(price, {})

    def prices(self, side: int, low: int, high: int) -> list[int]:
        """Prices with ``low <= price < high`` where orders stand, ascending."""
        prices = self._prices[side]
        return prices[bisect_left(prices, low) : bisect_left(prices, high)]

    def add(self, side: int, price: int, order_id: int, size: int) -> None:
        """Put an order at the end of its queue."""
        level = self._levels[side].get(price)
        if level is None:
            self._levels[side][price] = {order_id: size}
            insort(self._prices[side], price)
        else:
            level[order_id] = size

    def reduce(self, side: int, price: int, order_id: int, size: int) -> None:
        """Take shares off an order; an order that nobody has seen is left to ``verify`` to report."""
        level = self._levels[side].get(price)
        if level is None or order_id not in level:
            return
        level[order_id] -= size
        if level[order_id] <= 0:
            del level[order_id]
            if not level:
                del self._levels[side][price]
                del self._prices[side][bisect_left(self._prices[side], price)]


def to_the_back(queue: list[int], first: list[int]) -> list[int]:
    """The orders that must go to the back of a queue, one after the other, so that ``first`` stand at its front.

    >>> to_the_back([1, 2, 3, 4], [2, 3])
    [1]
    """
    first = [i for i in first if i in queue]
    if queue[: len(first)] == first:
        return []
    place = {order_id: k for k, order_id in enumerate(queue)}
    reach = max(place[i] for i in first)
    behind = [i for i in queue[reach + 1 :] if i not in first]
    wanted = first + behind + [i for i in queue[:reach] if i not in first]
    stay = 1
    while stay < len(wanted) and place[wanted[stay]] > place[wanted[stay - 1]]:
        stay += 1
    return wanted[stay:]

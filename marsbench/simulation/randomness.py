"""Counter-based random numbers: every draw is a function of what it is for, not of when it is made.

A draw is addressed by (key, start, rollout, index of the market order, purpose). Two arms of an
experiment therefore share their random numbers however many agents' orders lie between, an order
that is decided again reuses its own, and results depend neither on the number of processes nor on
where a run was interrupted. The generator is Philox4x32-10 (Salmon et al., SC 2011).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def philox(c0: int, c1: int, c2: int, c3: int, k0: int, k1: int) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Philox4x32-10: four words below 2^32 for a 128-bit counter under a 64-bit key."""
    m = np.uint64(0xFFFFFFFF)
    a, b, c, d = np.uint64(c0) & m, np.uint64(c1) & m, np.uint64(c2) & m, np.uint64(c3) & m
    x, y = np.uint64(k0) & m, np.uint64(k1) & m
    for _ in range(10):
        p = np.uint64(0xD2511F53) * a
        q = np.uint64(0xCD9E8D57) * c
        a, b, c, d = (q >> np.uint64(32)) ^ b ^ x, q & m, (p >> np.uint64(32)) ^ d ^ y, p & m
        x = (x + np.uint64(0x9E3779B9)) & m
        y = (y + np.uint64(0xBB67AE85)) & m
    return a, b, c, d


@njit(cache=True)
def _fill(key: int, starts, rollouts, index, purpose: int, out) -> None:  # type: ignore[no-untyped-def]
    k0, k1 = key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF
    for r in range(out.shape[0]):
        for j in range(0, out.shape[1], 2):
            tag = (purpose << 16) | (j >> 1)
            a, b, c, d = philox(index[r], tag, rollouts[r], starts[r], k0, k1)
            out[r, j] = (float(a >> np.uint64(5)) * 67108864.0 + float(b >> np.uint64(6)) + 0.5) / 9007199254740992.0
            if j + 1 < out.shape[1]:
                out[r, j + 1] = (
                    float(c >> np.uint64(5)) * 67108864.0 + float(d >> np.uint64(6)) + 0.5
                ) / 9007199254740992.0


class Streams:
    """The random numbers of the rows of one session.

    Parameters
    ----------
    key
        Seed of the experiment, 0 .. 2^62.
    starts
        ``Start.uid`` of each row, ``[R]``.
    rollouts
        Rollout number of each row, ``[R]``.
    """

    def __init__(self, key: int, starts: NDArray[np.int64], rollouts: NDArray[np.int64]) -> None:
        if not 0 <= key < 1 << 62:
            raise ValueError(f"random key must be in [0, 2^62), got {key}")
        self.key = key
        self._starts = np.asarray(starts, np.int64)
        self._rollouts = np.asarray(rollouts, np.int64)

    @classmethod
    def of(cls, key: int, uids: list[int], rollouts: int) -> Streams:
        """Streams for row = start * rollouts + rollout."""
        return cls(key, np.repeat(np.array(uids, np.int64), rollouts), np.tile(np.arange(rollouts), len(uids)))

    def uniforms(
        self, rows: NDArray[np.int64], index: NDArray[np.int64], purpose: int, count: int
    ) -> NDArray[np.float64]:
        """Independent uniforms in (0, 1), ``[len(rows), count]``, for event number ``index[k]`` of each row.

        ``purpose`` (0 .. 65535) keeps apart what the same event draws for different ends.
        """
        out = np.empty((len(rows), count))
        _fill(self.key, self._starts[rows], self._rollouts[rows], np.asarray(index, np.int64), purpose, out)
        return out

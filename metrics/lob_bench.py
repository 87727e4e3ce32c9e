"""LOB-Bench's scores of message sequences: distributions, conditions, horizon, responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from marsbench.evidence import Landing, Metric
from marsbench.lob_sequences import LobSequences
from marsbench.scores import Outcome, Score

from ._lob_bench_learned import discriminator_scores, predictive_scores
from ._lob_bench_response import response_scores
from ._lob_bench_scores import Measured, distance_scores, divergence, left_out_words, measure_all, summary_scores
from ._lob_bench_units import grouped
from ._scoring import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from marsbench.known_answers import KnownAnswer


@dataclass(frozen=True)
class LobBench(Metric):
    """Distances of generated from real message sequences, by LOB-Bench's definitions.

    Formula
        ``lobbench.<quantity>.l1``: half the summed absolute difference of the shares of real and generated
        observations in bins of the pooled sample; ``.w1``: Wasserstein-1 distance of z-scored values. 21 quantities
        and 3 conditional ones (``marsbench.stats.lob_bench``, ``lob_bench_distances``: every rule and deviation).
        ``lobbench.summary.<l1|w1>.<mean|median|iqm>``: over the 21, or those
        that the real sequences have (the reason names the others). ``lobbench.divergence.h<k>``: mean over the
        quantities of L1 of the 100 generated messages that end with the k-th against all real ones;
        ``.growth`` the last less the first. ``lobbench.response.<event>``: mean over lags of the absolute
        difference of the response functions (``lob_bench_response``). ``lobbench.discriminator.auc``: how well a
        network trained on other sequences tells generated from real, by sequence; ``.logistic.auc`` a logistic
        regression. ``lobbench.predictive.synthetic_to_real.auc``: prediction of the next move of the mid
        (``_lob_bench_learned``), learned from generated sequences; ``.real_to_real.auc``, learned from real ones, is
        its ceiling and the same for every generator.
    Range, direction, unit
        L1 in [0, 1], W1 from 0 in pooled standard deviations, responses from 0 in ticks, AUC of discriminators in
        [0, 1] with .5 where nothing is found; all lower is better. AUC of predictions: higher is better.
    Floor and ceiling
        ``.halves`` compares generated sequences of one half of the units with real ones of the other, one for each
        real one, beside the real of the same half (the ceiling), in bins of the real data, so that no generator moves
        the ceiling; floors are the frozen zero-intelligence value, for responses real sequences whose event types and
        signs are shuffled. Folders have no frozen floor. The
        published scores themselves are not normalised: their sampling noise depends on the number of sequences.
    Interval
        Delete-group jackknife t over days, below 10 days over sequences (then within-day inference only).
        The original resamples observations, which dependence makes many times too narrow.
    Several generated sequences for a real one
        All are pooled; the original pairs the last one only.
    Reference
        Nagy et al. (2025), arXiv 2502.09172; definitions read in the source of ``peernagy/lob_bench``.
    Known failures
        L1 is biased up in small samples, and more where there are many bins. W1 of a conditional score leaves out
        conditions that one side lacks (``matched`` in the table). Volume per minute keeps the original's handling
        of first seconds. Marginals alone cannot see the order of events; the responses and the horizon can a little.
    """

    splits: int = 8
    """Random halves that ``.halves`` averages over."""
    block: int = 100
    """Messages of a block of the divergence."""

    name = "lob-bench"
    version = 4
    evidence = LobSequences
    summary = "LOB-Bench: 21 + 3 distances, divergence by horizon, event responses of message sequences"
    replay_alone: ClassVar[Mapping[str, str]] = {
        "lobbench.predictive.real_to_real.auc": "lobbench.predictive.synthetic_to_real.auc"
    }
    landings = (
        Landing("control-constant", "lobbench.vol_per_min.l1", 1.0, 1.0, task="lob-bench"),  # it never trades
        Landing("control-constant", "lobbench.log_inter_arrival_time.l1", 0.8, 1.0, task="lob-bench"),
        Landing("control-copy", "lobbench.summary.l1.mean", 0.0, 0.3, task="lob-bench"),  # real flow, of another day
        Landing("control-copy", "lobbench.discriminator.logistic.auc", 0.6, 1.0, task="lob-bench"),
        Landing(
            "control-shuffled", "lobbench.log_time_to_cancel.l1.halves", 0.08, 0.6, "above_ceiling", task="lob-bench"
        ),
        Landing("control-shuffled", "lobbench.discriminator.logistic.auc", 0.8, 1.0, task="lob-bench"),
        Landing("reference", "lobbench.summary.l1.mean", 0.0, 0.2, task="lob-bench"),
        Landing(
            "reference", "lobbench.log_inter_arrival_time.l1.halves", -0.05, 0.05, "above_ceiling", task="lob-bench"
        ),
        Landing("reference", "lobbench.log_time_to_cancel.l1.halves", -0.05, 0.05, "above_ceiling", task="lob-bench"),
    )

    def __post_init__(self) -> None:
        for name in ("splits", "block"):
            if getattr(self, name) < 1:
                raise ValueError(f"lob-bench: {name} must be at least 1, got {getattr(self, name)}")

    def evaluate(self, evidence: LobSequences, rng: np.random.Generator) -> Outcome:
        data = grouped(evidence)
        seed = int(rng.integers(2**31))
        measured = measure_all(data)
        horizon, by_block = divergence(data, self.block)
        response, curves = response_scores(data, self.splits, seed)
        scores = [
            *distance_scores(measured, data, self.splits, seed),
            *summary_scores(measured, data),
            *horizon,
            *response,
            *discriminator_scores(data, np.random.default_rng(seed)),
            *predictive_scores(data),
        ]
        tables = {
            "lob_bench_summary": _table(measured, {s.key: s for s in scores}),
            "lob_bench_divergence": by_block,
            "lob_bench_response": curves,
        }
        within_day = () if evidence.by_day else ("intervals are over sequences: within-day inference only",)
        fewer = left_out_words(measured)
        notes = (f"the summary is {fewer}: not comparable with one over all",) if fewer else ()
        return Outcome(tuple(scores), tables, (*evidence.notes, *notes, *within_day))

    @classmethod
    def known_answers(cls) -> list[KnownAnswer]:
        from ._known_lob_bench import known_lob_bench

        return known_lob_bench()

    @classmethod
    def draw(cls, tables: Mapping[str, Mapping[str, Sequence[Any]]]) -> dict[str, Figure]:
        """Distances with floor and ceiling, divergence by horizon, the six response functions."""
        from ._lob_bench_figures import draw

        return draw(tables)


def _table(measured: list[Measured], scores: dict[str, Score]) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {
        "quantity": [one.key for one in measured],
        "title": [one.title for one in measured],
        "l1": [number(one.found.l1) for one in measured],
        "matched": [number(one.found.matched) for one in measured],
        "real_observations": [one.n_real for one in measured],
        "generated_observations": [one.n_made for one in measured],
    }
    for prefix, suffix in (("halves_", "l1.halves"), ("w1_", "w1")):
        of = [scores[f"lobbench.{one.key}.{suffix}"] for one in measured]
        for name in ("value", "ci_low", "ci_high", "floor", "ceiling"):
            table[prefix + name] = [getattr(s, name) for s in of]
    return table

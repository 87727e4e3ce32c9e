"""Speed of LOB-Bench's scores: 100 real, 100 generated and 100 conditioning sequences of 500 messages, all parts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from marsbench import registry
from marsbench.folder_scores import score_folder
from marsbench.suite import Entrant

sys.path.insert(0, str(Path(__file__).parents[1]))
from lob_arrays import evidence, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = evidence(np.random.default_rng(0), 100, n=500)
    pairs = tuple(replace(p, conditioning=p.real) for p in found.pairs)
    return write_folder(replace(found, pairs=pairs), tmp_path_factory.mktemp("lob-bench"))


def test_scoring_a_folder_with_every_part(benchmark, folder):
    """Reading, 24 scores, divergence, responses, discriminator, prediction, intervals; at most 20 CPU-seconds."""
    task = registry.task(registry.parse("lob-bench"))
    with threadpool_limits(1):
        made = benchmark.pedantic(score_folder, (Entrant.of(f"files:{folder}"), task), rounds=1)
    assert "lobbench.discriminator.auc" in {s["key"] for s in made["scores"]}

"""Shared numerics: stylized facts, histograms, bootstrap, nulls.

Arrays carry windows on the first axes (start, rollout) and minutes last. Statistics that are pooled
over windows are kept as additive sums per cluster (``pooling``), so that resampling clusters costs
one matrix product.
"""

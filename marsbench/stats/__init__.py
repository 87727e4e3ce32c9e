"""Shared numerics: stylized facts, histograms, bootstrap, nulls."""

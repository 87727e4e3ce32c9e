"""marsbench: an evaluation and benchmarking harness for market generators."""

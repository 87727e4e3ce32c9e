"""Market data: one module per source, and the catalogue."""

"""Data sets: which there are, which periods they hold, and how they are split."""

"""One-minute bars of a trajectory: prices, volume and the per-minute quantities of MarS Table 7."""

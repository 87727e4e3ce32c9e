"""Orders, matching rules, order books, trajectories and bars."""

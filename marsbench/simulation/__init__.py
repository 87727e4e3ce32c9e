"""Generator and agent contracts, randomness, lockstep rollouts, agents."""

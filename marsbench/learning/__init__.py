"""What trained generators share: tokens, training data, the training loop, and stored models."""

"""Training: the loop, the visits that teach the towers, the cuts that teach the ranker."""

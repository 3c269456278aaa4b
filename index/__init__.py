"""The index room: item ids, exact and approximate search, and the generation on disk."""

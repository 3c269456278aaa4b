"""The neural models: item tower, user tower with its sequence encoders, ranker, losses."""

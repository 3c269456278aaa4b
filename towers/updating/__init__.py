"""Incremental learning: new events joined to a dataset, a model learned on from its weights and judged before use."""

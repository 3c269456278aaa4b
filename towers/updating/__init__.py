"""Incremental learning: new events joined to a dataset, a model learned on from its weights, judged before it is used."""

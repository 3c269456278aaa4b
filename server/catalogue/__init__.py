"""The live catalogue: items that appear, change and go while a generation serves."""

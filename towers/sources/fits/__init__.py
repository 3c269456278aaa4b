"""How each further source is learned from the log."""

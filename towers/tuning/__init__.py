"""The search for good settings: on the validation time alone, within a budget of minutes."""

"""What shoppers do: taken in, checked, written to the store's log and states, read back, forgotten."""

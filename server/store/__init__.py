"""The store of events, recent states and catalogue changes: a Valkey server, our own or somebody else's."""

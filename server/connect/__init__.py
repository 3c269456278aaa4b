"""Connectors: what a shop already writes (Kafka topics, files, Valkey streams) delivered to a server as events.

    source (kafka, files, stream) → records → mapping → events → delivery → acknowledgement → commit of the position

At least once: a position is committed only after the server has acknowledged every event before it. The ids of events
follow from the position, so that what is delivered again is not doubled in a shopper's state.
"""

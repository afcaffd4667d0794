"""Client of the relay and every type that crosses the wire."""

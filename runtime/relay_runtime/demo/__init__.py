"""`relay-runtime demo`: the promises, shown on this machine with no account and no network."""

"""Looking at a session's terminal, and typing into it, with no supervisor in between."""

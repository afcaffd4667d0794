"""Claude Code in its own terminal interface, supervised.

What is known of it comes from four places, each with its part: our hooks (`hooks`) say at once that
something happened, and ask for permissions; Claude's record (`record`) says what was in a turn, in
order and on disk, 0.1 s later; the terminal (`view`) shows the boundary and dialogues, and where a
draft stands; the holder says when people type. `Fold` makes events of it, without I/O.

A message goes in as keystrokes, or through a hook that waits for one (`entering`). It counts as in
the context when the record has it (`writes`).
"""

from __future__ import annotations

from .session import TuiSession, adopt, create

__all__ = ["TuiSession", "adopt", "create"]

"""What a session of Claude in its terminal can do."""

from __future__ import annotations

from typing import Final

from relay_runtime.contract import Capabilities, Mode

from ..writes import BY_TRANSCRIPT
from .entering import MAX_TYPED

CAPABILITIES: Final = Capabilities(
    modes=frozenset({Mode.PTY}),
    boundary="claude.hooks",
    evidence=BY_TRANSCRIPT,
    steer=True,
    permissions=True,
    max_input_bytes=MAX_TYPED,
)

"""httpx without its command line, which it imports when click and rich are installed.

They are, for ours; loading them costs a process 3 MB and 50 ms it has no use for. Import `httpx`
from here before anything else does.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpx

__all__ = ["httpx"]

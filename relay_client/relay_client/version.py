"""The version of everything in this distribution. Its own module because it is read everywhere."""

from __future__ import annotations

VERSION = "0.1.0"

__all__ = ["VERSION"]

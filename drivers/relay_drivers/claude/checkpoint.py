"""What is committed with the events: from where to read again, and the state at that byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .state import State

if TYPE_CHECKING:
    from relay_runtime.contract import Json

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`offset` is the first byte of stdout not consumed; `err_offset` where stderr of it begins."""

    offset: int
    err_offset: int
    state: State
    skipping: bool = False

    def to_json(self) -> Json:
        return {
            "format": _FORMAT,
            "offset": self.offset,
            "err_offset": self.err_offset,
            "skipping": self.skipping,
            "state": self.state.to_json(),
        }

    @classmethod
    def from_json(cls, saved: Json) -> Checkpoint:
        """Raises `ValueError` when `saved` was not written by this driver."""
        match saved:
            case {
                "format": 1,
                "offset": int(offset),
                "err_offset": int(err_offset),
                "skipping": bool(skipping),
                "state": state,
            }:
                return cls(offset, err_offset, State.from_json(state), skipping)
        raise ValueError("the checkpoint of this claude session has an unknown format")


__all__ = ["Checkpoint"]

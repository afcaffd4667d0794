"""`attach` in its ordinary form is understood without the command line's machinery, as it is with."""

from __future__ import annotations

import pytest

from relay_runtime.attach.client import Size, Wishes
from relay_runtime.cli.quick import KEYS_VARIABLE, wishes

PQ = (0x10, 0x11)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("sh", Wishes("sh")),
        ("-r sh", Wishes("sh", read_only=True)),
        ("sh --read-only", Wishes("sh", read_only=True)),
        ("sh --size smallest", Wishes("sh", size=Size.SMALLEST)),
        ("--size=fixed sh", Wishes("sh", size=Size.FIXED)),
        ("sh --detach-keys ctrl-p,ctrl-q", Wishes("sh", keys=PQ)),
    ],
)
def test_an_ordinary_visit_is_understood(words: str, wanted: Wishes) -> None:
    assert wishes(words.split()) == wanted


@pytest.mark.parametrize(
    "words",
    [
        *("", "a b", "--help", "sh --help", "-h", "sh --transcript", "-- sh", "-rx sh"),
        *("sh --size", "sh --size huge", "sh --detach-keys q", "--read-only=yes sh"),
    ],
)
def test_everything_else_is_left_to_the_command(words: str) -> None:
    assert wishes(words.split()) is None


def test_keys_of_the_environment_count_unless_others_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, "ctrl-p,ctrl-q")
    assert wishes(["sh"]) == Wishes("sh", keys=PQ)
    assert wishes(["sh", "--detach-keys", "ctrl-a"]) == Wishes("sh", keys=(1,))

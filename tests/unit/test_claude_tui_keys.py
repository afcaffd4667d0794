"""What is typed into Claude's terminal, and how its settings are asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from relay_drivers.claude.tui import keys, launch, options
from relay_runtime.contract import StartFailed

if TYPE_CHECKING:
    from relay_runtime.contract import Json


@pytest.mark.parametrize(
    "text",
    [
        "/clear",
        "  /exit",
        "!touch pwned",
        "#note",
        "exit",
        " QUIT ",
        ":q",
        "@/etc/passwd",
        "see @x",
        "ends in \\",
        "ends in \\ ",
    ],
)
def test_a_text_without_a_frame_is_no_command_and_attaches_nothing(text: str) -> None:
    typed = keys.plain(text)
    assert not re.match(r"\s*[/!#&@]", typed)
    assert not re.fullmatch(r"\s*:?(exit|quit|q)\s*", typed, re.IGNORECASE)
    assert not re.search(r"(^|\s)@", typed)
    assert not typed.rstrip().endswith("\\")
    assert typed.replace(keys.GUARD, "") == text


def test_plain_words_are_typed_as_they_are() -> None:
    text = "exit the loop / be quick! a@b.c \u00e4 \U0001f469\u200d\U0001f4bb\n\tdone"
    assert keys.plain(text) == text


@pytest.mark.parametrize("control", ["\x1b[201~", "\x00", "\x03", "\x04", "\x9b201~", "\x7f"])
def test_nothing_in_a_text_ends_the_paste_or_is_a_key(control: str) -> None:
    (paste, pause), enter = keys.paste(keys.plain(f"a{control}b"))
    assert paste.startswith("\x1b[200~a") and paste.endswith("b\x1b[201~")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", paste[6:-6])
    assert pause >= 100 and enter == ("\r", 0)


@pytest.mark.parametrize("size", [0, 1000, 100_000, 2_000_000])
def test_the_pause_before_enter_fits_into_one_typing(size: int) -> None:
    steps = keys.paste("x" * size)
    assert sum(pause for _, pause in steps) <= 2000


def test_keys_of_an_answer_are_pressed_one_after_another() -> None:
    pressed = [key for key, _ in keys.strokes("\x1b[B\x1bOA\x1b[1;5Cy\r")]
    assert pressed == ["\x1b[B", "\x1bOA", "\x1b[1;5C", "y", "\r"]
    many = keys.strokes("x" * 100)
    assert len(many) <= 16 and "".join(key for key, _ in many) == "x" * 100
    assert sum(pause for _, pause in many) <= 2000


def test_an_interrupt_leaves_no_room_for_the_message_to_be_taken_back() -> None:
    assert [key for key, _ in keys.interrupt(empty=True)] == [" ", "\x1b", "\x7f"]
    assert [key for key, _ in keys.interrupt(empty=False)] == ["\x1b"]


def test_the_settings_of_a_session_have_our_hooks_and_nothing_of_the_users() -> None:
    settings = launch.settings("/state of/me")
    hooks = settings["hooks"]
    assert isinstance(hooks, dict) and set(settings) == {"disableAllHooks", "hooks"}
    assert {"SessionStart", "UserPromptSubmit", "PreToolUse", "Stop", "StopFailure"} <= set(hooks)
    assert all("'/state of/me/holder.sock'" in str(hooks[event]) for event in hooks)
    waking = {event for event in hooks if "asyncRewake" in str(hooks[event])}
    assert waking == {"SessionStart", "Stop", "StopFailure"}
    seconds = [int(found) for found in re.findall(r"'timeout': (\d+)", str(hooks))]
    assert max(seconds) * 1000 < 2**31


def test_options_are_checked() -> None:
    given = options.parse({"startup": [{"expect": "trust", "answer": "\r"}], "quiet_s": 2})
    assert given.quiet_s == 2 and given.startup[0].expect.search("do you trust it")
    assert options.parse({}).quiet_s == options.QUIET_S


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"start": []}, "did you mean 'startup'"),
        ({"quiet_s": -1}, "options.quiet_s"),
        ({"quiet_s": True}, "options.quiet_s"),
        ({"startup": [{"expect": "("}]}, "options.startup.0"),
        ({"startup": {"expect": "x"}}, "options.startup"),
    ],
)
def test_wrong_options_are_named(wrong: dict[str, Json], said: str) -> None:
    with pytest.raises(StartFailed, match=re.escape(said)):
        options.parse(wrong)

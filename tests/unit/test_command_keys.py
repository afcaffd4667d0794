"""Text as keystrokes: whatever is in it, it stays text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_drivers.command.keys import PASTE_BEGIN, PASTE_END, Untypable, keys
from relay_drivers.command.options import Options, parse
from relay_runtime.contract import Json, StartFailed

LINE = Options(line_bytes=10**9)


def test_a_paste_and_its_enter_are_separate() -> None:
    typed = keys("one\ntwo", LINE, paste=True)
    assert (typed.text, typed.enter) == (b"\x1b[200~one\ntwo\x1b[201~", b"\r")


def test_a_line_carries_its_enter_and_no_other_line_end() -> None:
    typed = keys("one\r\ntwo\tthree\n", LINE, paste=False)
    assert (typed.text, typed.enter) == ("one ⏎ two three\r".encode(), None)


texts = st.text().filter(lambda text: any(c.isprintable() and not c.isspace() for c in text))


@given(texts)
def test_no_text_can_end_its_paste_or_press_a_key(text: str) -> None:
    typed = keys(text, LINE, paste=True).text
    inside = typed.removeprefix(PASTE_BEGIN).removesuffix(PASTE_END)
    assert len(inside) == len(typed) - len(PASTE_BEGIN) - len(PASTE_END)
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", inside)


@given(texts, st.sampled_from(["utf-8", "ascii", "latin-1", "shift_jis", "gb18030"]))
def test_no_text_can_submit_a_line_early_or_complete_it(text: str, encoding: str) -> None:
    options = Options(line_bytes=10**9, encoding=encoding)
    typed = keys(text, options, paste=False).text
    assert typed.endswith(b"\r")
    assert not re.search(rb"[\x00-\x1f\x7f]", typed[:-1])


@pytest.mark.parametrize(
    "hostile",
    ["\x1b[201~\r!rm", "a\x9b201~b", "\x03\x03", "\x04", "a\x16b", "a\rb", "x\x00y", "\x7f\x15"],
)
def test_known_escapes_are_taken_apart(hostile: str) -> None:
    for paste in (True, False):
        typed = keys(f"text {hostile}", LINE, paste=paste)
        inside = typed.text.removeprefix(PASTE_BEGIN).removesuffix(PASTE_END).removesuffix(b"\r")
        assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", inside)
        assert "\x9b".encode() not in inside


def test_the_echo_is_looked_for_by_what_every_program_shows_of_it() -> None:
    typed = keys("from bob\n\u200bone 👩\u200d💻 two\ufeff\u2060end", LINE, paste=True)
    assert "\u200b" in typed.text.decode()
    assert (typed.head, typed.tail, typed.size) == ("frombob", "end", 18)


@pytest.mark.parametrize("text", ["", " \n\t ", "\x03\x04", "\u200b"])
def test_nothing_is_not_typed(text: str) -> None:
    with pytest.raises(Untypable, match="nothing is left of it"):
        keys(text, LINE, paste=True)


def test_a_line_longer_than_a_terminal_takes_is_told_with_its_limit() -> None:
    keys("x" * 4094, Options(), paste=False)
    with pytest.raises(Untypable, match="4095 bytes, and a program .* reads a line of 4094"):
        keys("x" * 4095, Options(), paste=False)
    keys("x" * 100_000, Options(), paste=True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"promt": "x"}, "options.promt: the command harness has no such option; did you mean 'pr"),
        ({"prompt": "("}, "options.prompt: not a pattern: "),
        ({"prompt": 5}, "options.prompt: must be a text"),
        ({"quiet_s": 0}, "options.quiet_s: must be a number of seconds"),
        ({"quiet_s": True}, "options.quiet_s: must be a number of seconds"),
        ({"quiet_s": float("nan")}, "options.quiet_s: must be a number of seconds"),
        ({"bracketed_paste": "yes"}, "options.bracketed_paste: must be true, false"),
        ({"startup": {"expect": "x"}}, "options.startup: must be a list"),
        ({"startup": [{"expect": "x"}]}, "options.startup.0: must be {"),
        ({"startup": [{"expect": "(", "answer": "y"}]}, "options.startup.0.expect: not a pattern"),
        ({"encoding": "klingon"}, "options.encoding: 'klingon' is not a text encoding"),
        ({"encoding": "utf-16"}, "options.encoding: 'utf-16' cannot be typed"),
        ({"encoding": "iso2022_jp"}, "options.encoding: 'iso2022_jp' cannot be typed"),
        ({"encoding": "utf-7"}, "options.encoding: 'utf-7' is not a text encoding"),
        ({"encoding": "cp037"}, "options.encoding: 'cp037' cannot be typed"),
        ({"encoding": "base64"}, "options.encoding: 'base64' is not a text encoding"),
        ({"line_bytes": "9"}, "options.line_bytes: must be a number of bytes"),
    ],
)
def test_wrong_options_are_told_in_one_line(options: dict[str, Json], told: str) -> None:
    with pytest.raises(StartFailed) as caught:
        parse(options)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_quiet_takes_longer_to_mean_something_without_a_prompt() -> None:
    assert parse({"prompt": "> "}).quiet_s < parse({}).quiet_s
    assert parse({"quiet_s": 3}).quiet_s == 3

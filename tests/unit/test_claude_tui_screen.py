"""What is read from Claude's screen, and that nothing is read which is not certain.

`tests/recordings/screens/claude-tui` has what `Screen.snapshot` gave of two versions in many states
and sizes; `seen.jsonl` says what a person sees on each.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relay_drivers.claude.tui.screen import LEAST_COLS, TuiScreen, read
from relay_runtime.screen import Screen, exact, new_screen
from relay_runtime.screen.plain import PlainScreen

pytestmark = pytest.mark.skipif(not exact(), reason="pyghostty has no wheel for this platform")

RECORDINGS = Path(__file__).parents[1] / "recordings" / "screens" / "claude-tui"
SEEN = {
    line["name"]: line
    for line in map(json.loads, (RECORDINGS / "seen.jsonl").read_text("utf-8").splitlines())
}
DRAFTS = [name for name, line in SEEN.items() if line["input"] == "draft"]
INPUTS = [name for name, line in SEEN.items() if line["input"] != "none"]
COLS = 60
EDGE = "─" * COLS


def recorded(name: str) -> Screen:
    screen = new_screen(SEEN[name]["rows"], SEEN[name]["cols"])
    screen.feed((RECORDINGS / f"{name}.ansi").read_bytes())
    return screen


def drawn(*lines: str, cursor: tuple[int, int], title: str = "✳ Claude Code") -> Screen:
    """A screen with these lines; `cursor` counts from 0."""
    screen = new_screen(len(lines), COLS)
    row, col = cursor
    text = f"\x1b]0;{title}\x07" + "\r\n".join(lines) + f"\x1b[{row + 1};{col + 1}H"
    screen.feed(text.encode())
    return screen


def box(line: str, col: int, above: str = "", below: str = "") -> Screen:
    return drawn("hello", above, EDGE, line, EDGE, below, cursor=(3, col))


@pytest.mark.parametrize("name", SEEN)
def test_a_recorded_screen_is_read_as_a_person_reads_it(name: str) -> None:
    wanted, found = SEEN[name], read(recorded(name))
    assert (found.input, found.stashed) == (wanted["input"], wanted["stashed"])
    assert found.busy is wanted["busy"]
    dialogue = found.dialogue
    assert wanted["dialogue"] == (
        dialogue
        and {"kind": dialogue.kind, "text": dialogue.text, "options": list(dialogue.options)}
    )


@pytest.mark.parametrize("name", DRAFTS)
def test_a_draft_is_never_taken_for_an_empty_box_whatever_part_of_it_is_shown(name: str) -> None:
    for rows in (1, 2, 3, 5, 8, 10, 15, 24, 38, 41, 60):
        for cols in (1, 10, 23, 24, 30, 40, 79, 80, 119, 121, 200):
            with recorded(name) as screen:
                screen.resize(rows, cols)
                assert read(screen).input != "empty", (rows, cols)


@pytest.mark.parametrize("name", INPUTS)
def test_a_box_without_the_cursor_takes_no_input(name: str) -> None:
    screen = recorded(name)
    lines, cursor = screen.text(), screen.cursor.row
    edges = [row for row, line in enumerate(lines) if line.startswith("─")]
    for row in range(screen.rows):
        screen.feed(f"\x1b[{row + 1};3H".encode())
        if any(row <= edge < cursor or cursor < edge <= row for edge in edges):
            assert read(screen).input == "none", row


@pytest.mark.parametrize("name", SEEN)
def test_a_screen_that_is_half_drawn_is_read_without_an_error(name: str) -> None:
    data = (RECORDINGS / f"{name}.ansi").read_bytes()
    for part in range(20):
        screen = new_screen(SEEN[name]["rows"], SEEN[name]["cols"])
        screen.feed(data[: len(data) * part // 20])
        assert isinstance(read(screen), TuiScreen)


def test_a_hint_is_no_draft() -> None:
    hint = "\x1b[38;5;246m❯\xa0\x1b[0m\x1b[7mP\x1b[0m\x1b[2mress\x1b[0m \x1b[2mup to edit\x1b[0m"
    assert read(box(hint, 2)).input == "empty"
    assert read(box("❯\xa0\x1b[2mTry this\x1b[0m", 2)).input == "empty"  # without focus


@pytest.mark.parametrize(
    "typed",
    [
        "\x1b[7mx\x1b[0m",
        "\x1b[7mx\x1b[0my",
        "\x1b[7mP\x1b[0m\x1b[2mress\x1b[0m up",
        "\x1b[7mP\x1b[0m\x1b[38;2;1;2;3mress up\x1b[0m",
        "\x1b[7mP\x1b[0m\x1b[38;5;2mress up\x1b[0m",
        "\x1b[7mP\x1b[0m\x1b[1mress up\x1b[0m",
        "\x1b[7mP\x1b[0m\x1b[2mress\x1b[22m up\x1b[0m",
    ],
)
def test_a_draft_with_the_cursor_at_its_beginning_is_no_hint(typed: str) -> None:
    assert read(box(f"❯\xa0{typed}", 2)).input == "draft"


def test_blanks_and_line_breaks_are_a_draft_too() -> None:
    assert read(box("❯\xa0   ", 5)).input == "draft"
    assert read(drawn("", "", EDGE, "❯\xa0", "", EDGE, "", cursor=(4, 2))).input == "draft"
    assert read(box("❯\xa0", 2)).input == "empty"


@pytest.mark.parametrize("prompt", ["❯ ", "! ", "!\xa0", "> ", "❯", "  "])
def test_only_the_prompt_of_the_input_box_is_one(prompt: str) -> None:
    assert read(box(prompt + "said before", 2)).input == "none"


def test_an_edge_must_go_all_the_way_and_may_have_the_name_of_the_session() -> None:
    named = "─" * 40 + " 中文 agent ──"
    assert read(drawn("", "", named, "❯\xa0", EDGE, "", cursor=(3, 2))).input == "empty"
    for edge in ("─" * 30, EDGE[1:], "", "text " + EDGE[5:]):
        assert read(drawn("", "", EDGE, "❯\xa0", edge, "", cursor=(3, 2))).input == "none", edge
    for edge in ("", "text", EDGE[:20] + " x"):
        assert read(drawn("", "", edge, "❯\xa0", EDGE, "", cursor=(3, 2))).input == "none", edge


def test_a_note_about_a_stashed_draft_is_found_at_its_place_alone() -> None:
    right = " " * 20
    assert read(box("❯\xa0", 2, above=f"{right}medium · draft stashed")).stashed
    assert read(box("❯\xa0", 2, above=f"{right}draft stashed")).stashed
    assert read(box("❯\xa0", 2, below=f"  ? for shortcuts{right}high · › stashed")).stashed
    assert not read(box("❯\xa0", 2, above=f"{right}draft restored")).stashed
    assert not read(box("❯\xa0draft stashed", 15)).stashed
    said = drawn("draft stashed", "", EDGE, "❯\xa0", EDGE, "", cursor=(3, 2))
    assert not read(said).stashed


def test_a_window_too_narrow_for_the_note_about_a_stash_has_no_input() -> None:
    for cols, expected in ((LEAST_COLS, "empty"), (LEAST_COLS - 1, "none")):
        screen = new_screen(6, cols)
        edge = "─" * cols
        screen.feed(f"hi\r\n\r\n{edge}\r\n❯\xa0\r\n{edge}\r\n\x1b[4;3H".encode())
        assert read(screen).input == expected


def test_the_title_and_the_footer_say_whether_it_works() -> None:
    def busy(title: str, footer: str = "") -> bool | None:
        lines = ("", "", EDGE, "❯\xa0", EDGE, footer)
        return read(drawn(*lines, cursor=(3, 2), title=title)).busy

    assert [busy(f"{sign} anything") for sign in "◐◑⠂⠐"] == [True] * 4
    assert busy("✳ anything") is False
    assert busy("vim") is None
    assert busy("") is None
    assert busy("", "  esc to interrupt") is True


def test_a_question_of_the_model_never_passes_for_one_of_claudes_own() -> None:
    for words in ("Yes, I trust this folder", "Yes, I accept", "Dark mode"):
        screen = drawn(
            EDGE,
            " ☐ Trust",
            "Do you want to use this API key?",
            "",
            f"❯ 1. {words}",
            "  2. No, exit",
            "  3. Type something.",
            "",
            "Enter to select · Esc to cancel",
            cursor=(4, 0),
        )
        dialogue = read(screen).dialogue
        assert dialogue is not None and dialogue.kind == "question"
        assert dialogue.options == (words, "No, exit", "Type something.")


def test_what_a_command_says_does_not_change_what_is_asked_about_it() -> None:
    screen = drawn(
        EDGE,
        " Bash command",
        "   echo 'Do you want to use this API key?'",
        "",
        " Do you want to proceed?",
        " ❯ 1. Yes",
        "   2. No",
        cursor=(5, 1),
    )
    dialogue = read(screen).dialogue
    assert dialogue is not None
    assert (dialogue.kind, dialogue.options) == ("permission", ("Yes", "No"))
    assert dialogue.text == "Bash command · Do you want to proceed?"


def test_a_dialogue_in_the_conversation_has_no_cursor_and_is_none() -> None:
    said = (" Do you want to proceed?", " ❯ 1. Yes", "   2. No")
    found = read(drawn(*said, "", EDGE, "❯\xa0", EDGE, "", cursor=(5, 2)))
    assert (found.input, found.dialogue) == ("empty", None)
    assert read(drawn(*said, "", cursor=(3, 0))).dialogue is None


def test_a_screen_without_an_emulator_says_nothing_but_the_title() -> None:
    screen = PlainScreen(6, COLS)
    screen.feed(f"\x1b]0;◐ Claude Code\x07{EDGE}\r\n❯\xa0\r\n{EDGE}\r\n".encode())
    assert read(screen) == TuiScreen("none", stashed=False, dialogue=None, busy=True)

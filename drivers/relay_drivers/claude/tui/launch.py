"""How Claude is started in a terminal, with hooks of ours for this session alone."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from relay_runtime import holder
from relay_runtime.contract import Approval, Io, SessionSpec, StartPlan

from ..launch import READ_ONLY_TOOLS, check_arguments, checked_instructions, overlay, program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relay_runtime.contract import Json

ROWS, COLS = 40, 120

#: A dialogue of Claude asks where there is no other rule.
_APPROVAL: Final[Mapping[Approval | None, tuple[str, ...]]] = {
    None: (),
    Approval.OPEN: ("--dangerously-skip-permissions",),
    Approval.GUARDED: ("--permission-mode", "default"),
    Approval.READ_ONLY: ("--permission-mode", "default", "--tools", READ_ONLY_TOOLS),
}
#: Arguments that would break what the driver relies on, and what to use instead.
_OURS: Final = {
    **dict.fromkeys(
        ("-p", "--print", "--input-format", "--output-format"), "spawn it with --mode headless"
    ),
    **dict.fromkeys(("-r", "--resume", "-c", "--continue"), "the driver resumes by itself"),
    **dict.fromkeys(
        ("--session-id", "--from-pr", "--fork-session"), "the driver chooses the conversation"
    ),
    **dict.fromkeys(("--bg", "--background", "--tmux"), "the session is supervised already"),
    **dict.fromkeys(("--bare", "--safe-mode"), "the driver needs its hooks"),
    "--settings": "the driver's hooks are there; write yours into .claude/settings.local.json",
    "--no-session-persistence": "receipts need the record of the conversation",
    "--ax-screen-reader": "the driver reads the usual screen",
    "--permission-prompt-tool": "use `approval`",
}

#: Of Claude, in the order in which a session has them.
_POSTED: Final = (
    *("SessionStart", "UserPromptSubmit", "PostToolUse", "PostToolUseFailure"),
    *("Stop", "StopFailure"),
)
#: After these Claude may wait for input, so a message must be able to wake it.
_WAKING: Final = ("SessionStart", "Stop", "StopFailure")
#: A hook posts a line in milliseconds; should the holder hang, Claude goes on after this.
_POST_S: Final = 10
#: Hooks that wait for a message or an answer: longer than any session, and below the 2**31 ms at
#: which timers overflow.
_WAIT_S: Final = 2_000_000

#: What Claude puts before a message that wakes it. It is looked for in the record.
WAKE_HEAD: Final = "Message from the relay:"


def plan(
    spec: SessionSpec, environ: Mapping[str, str], conversation: str, *, resume: bool
) -> StartPlan:
    """What to execute. Raises `StartFailed` when that cannot work."""
    path = program(environ)
    check_arguments(spec.args, _OURS)
    instructions = checked_instructions(spec.instructions)
    argv = (
        path,
        *("--resume" if resume else "--session-id", conversation),
        *("--settings", json.dumps(settings(spec.state_dir), separators=(",", ":"))),
        *_APPROVAL[spec.approval],
        *(("--model", spec.model) if spec.model else ()),
        *(("--append-system-prompt", instructions) if instructions else ()),
        *spec.args,
    )
    env = overlay(environ)
    # A terminal that it knows; its own size is told by the terminal itself.
    env |= {"TERM": "xterm-256color", "COLUMNS": None, "LINES": None}
    env["CLAUDE_CODE_DISABLE_TERMINAL_TITLE"] = None  # the title says whether it works
    return StartPlan(argv, spec.cwd, Io.PTY, env, rows=ROWS, cols=COLS)


def settings(state_dir: str) -> dict[str, Json]:
    """Laid over the user's settings, whose hooks run beside these."""
    post = _hook(state_dir, "post", _POST_S)
    # Claude goes on meanwhile: a hook that it waits for costs 0.1 s.
    aside: dict[str, Json] = {**post, "async": True}
    hooks: dict[str, list[Json]] = {event: [{"hooks": [aside]}] for event in _POSTED}
    # Before a tool it waits: no dialogue may open while a message is typed.
    hooks["PreToolUse"] = [{"hooks": [post]}]
    hooks["PermissionRequest"] = [{"hooks": [_hook(state_dir, "ask", _WAIT_S)]}]
    wake: dict[str, Json] = {
        **_hook(state_dir, "wake", _WAIT_S),
        "asyncRewake": True,
        "rewakeMessage": WAKE_HEAD,
        "rewakeSummary": "relay message received",
    }
    for event in _WAKING:
        hooks[event].append({"hooks": [wake]})
    return {"disableAllHooks": False, "hooks": hooks}


def _hook(state_dir: str, mode: str, timeout: int) -> dict[str, Json]:
    script = str(Path(holder.__file__).with_name("hook.py"))
    words = (sys.executable, "-I", "-S", script, f"{state_dir}/holder.sock", mode)
    command = "exec " + " ".join(map(shlex.quote, words))
    return {"type": "command", "command": command, "timeout": timeout}


__all__ = ["COLS", "ROWS", "WAKE_HEAD", "plan", "settings"]

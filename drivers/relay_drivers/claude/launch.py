"""How Claude is started, what its last words mean, and what can be seen of it beforehand."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Final

import anyio

from relay_runtime.contract import (
    Approval,
    Io,
    Probe,
    ResumeRefused,
    SessionSpec,
    StartFailed,
    StartPlan,
)
from relay_runtime.events import ExitClass

from .transcript import config_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM: Final = "claude"
INSTALL: Final = "install Claude Code (npm install -g @anthropic-ai/claude-code) or correct PATH"

#: Tools that cannot write. The list is what exists at all, also for subagents; a deny list would
#: miss the tools of tomorrow. MCP tools stay: each asks, or follows the user's own rules.
READ_ONLY_TOOLS: Final = "Read,Grep,Glob,WebFetch,WebSearch"
_ASK: Final = ("--permission-prompt-tool", "stdio")
_APPROVAL: Final[Mapping[Approval | None, tuple[str, ...]]] = {
    None: _ASK,
    Approval.OPEN: ("--dangerously-skip-permissions",),
    Approval.GUARDED: ("--permission-mode", "default", *_ASK),
    Approval.READ_ONLY: ("--permission-mode", "default", *_ASK, "--tools", READ_ONLY_TOOLS),
}

#: Arguments that would break what the driver relies on, and what to use instead.
_OURS: Final = {
    "-p": "it is always set",
    "--print": "it is always set",
    "--input-format": "the driver needs stream-json",
    "--output-format": "the driver needs stream-json",
    "--permission-prompt-tool": "use `approval`",
    "--session-id": "the driver chooses it",
    "-r": "the driver resumes by itself",
    "--resume": "the driver resumes by itself",
    "-c": "the driver resumes by itself",
    "--continue": "the driver resumes by itself",
    "--from-pr": "the driver chooses the conversation",
    "--fork-session": "the driver chooses the conversation",
    "--no-session-persistence": "receipts need the record of the conversation",
    "--bg": "the session is supervised already",
    "--background": "the session is supervised already",
}
#: Linux takes 128 KiB for one argument.
_MAX_INSTRUCTIONS: Final = 120_000

#: Of a Claude that started us; with these the child would take itself for a part of that one.
_NESTING: Final = (
    "CLAUDECODE",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_CHILD_SESSION",
    "CLAUDE_CODE_SESSION_ID",
    "CLAUDE_CODE_SESSION_ATTENDED",
    "CLAUDE_CODE_SSE_PORT",
    "CLAUDE_PID",
    "CLAUDE_EFFORT",
    "AI_AGENT",
)


def plan(
    spec: SessionSpec, environ: Mapping[str, str], conversation: str, *, resume: bool
) -> StartPlan:
    """What to execute. Raises `StartFailed` when that cannot work."""
    path = program(environ)
    check_arguments(spec.args, _OURS)
    instructions = checked_instructions(spec.instructions)
    argv = (
        path,
        *("-p", "--verbose", "--replay-user-messages"),
        *("--input-format", "stream-json", "--output-format", "stream-json"),
        *("--resume" if resume else "--session-id", conversation),
        *_APPROVAL[spec.approval],
        *(("--model", spec.model) if spec.model else ()),
        *(("--append-system-prompt", instructions) if instructions else ()),
        *spec.args,
    )
    env = overlay(environ)
    env["CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS"] = "1"
    env["CLAUDE_CODE_EAGER_FLUSH"] = "1"  # a message is on disk before its model request
    return StartPlan(argv, spec.cwd, Io.PIPES, env)


def program(environ: Mapping[str, str]) -> str:
    """Where Claude is. Raises `StartFailed`."""
    path = shutil.which(PROGRAM, path=environ.get("PATH"))
    if path is None:
        raise StartFailed(f"claude is not on the session's PATH: {INSTALL}")
    return path


def check_arguments(args: Sequence[str], ours: Mapping[str, str]) -> None:
    """Raises `StartFailed` for one of `ours`, which says what to do instead."""
    for argument in args:
        name = argument.partition("=")[0]
        if name in ours:
            raise StartFailed(f"remove {name} from the arguments for claude: {ours[name]}")


def checked_instructions(given: str | None) -> str:
    """Raises `StartFailed` when they are too long for an argument."""
    instructions = given or ""
    if len(instructions.encode("utf-8", "replace")) > _MAX_INSTRUCTIONS:
        raise StartFailed(
            f"shorten `instructions` to {_MAX_INSTRUCTIONS} bytes: claude takes no more"
        )
    return instructions


def overlay(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Of the environment of every Claude that we start."""
    overlay: dict[str, str | None] = {name: None for name in _NESTING if name in environ}
    if "DISABLE_AUTOUPDATER" not in environ:
        overlay["DISABLE_AUTOUPDATER"] = "1"  # never replace the program under a running session
    return overlay


# --- last words ---------------------------------------------------------------------------------------

# Anchored at the start of a line: what agents and tools say is inside lines of JSON.
_REFUSED: Final = re.compile(
    r"^(?:No conversation found with session ID|Error: Session ID \S+ is already in use)",
    re.MULTILINE,
)
_AUTH: Final = re.compile(r"^(?:Not logged in|Invalid API key|Please run /login)", re.MULTILINE)
_ADVICE: Final = (
    (
        re.compile(r"^--dangerously-skip-permissions cannot be used with root", re.MULTILINE),
        "run it as another user, set IS_SANDBOX=1 inside a sandbox, or choose another approval",
    ),
    (
        re.compile(r"^(?:error: unknown option|Error: Invalid session ID)", re.MULTILINE),
        "correct the arguments for claude",
    ),
)


#: What a terminal is told besides text.
_SEQUENCE: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)|[\r\x00-\x08]"
)


def exit_class(last_output: str) -> ExitClass | None:
    """What the end of stdout and stderr says about why the process is gone."""
    last_output = _SEQUENCE.sub("", last_output)
    if _REFUSED.search(last_output):
        return ExitClass.RESUME_REFUSED
    if any(pattern.search(last_output) for pattern, _ in _ADVICE):
        return ExitClass.START_FAILED
    return ExitClass.AUTH if _AUTH.search(last_output) else None


def start_error(last_words: str, how: str) -> StartFailed | ResumeRefused:
    """The error for a process that ended before it was ready; `how` says with which status."""
    last_words = _SEQUENCE.sub("", last_words)
    lines = [line.strip() for line in last_words.splitlines() if line.strip()]
    said = lines[-1][:500] if lines else "it said nothing"
    if _REFUSED.search(last_words):
        return ResumeRefused(f"claude does not continue this conversation: {said}")
    advice = next((advice for pattern, advice in _ADVICE if pattern.search(last_words)), None)
    if advice is None:
        advice = (
            "log in with `claude`" if _AUTH.search(last_words) else "try `claude -p hello` there"
        )
    return StartFailed(f"claude did not start ({how}): {said}; {advice}")


# --- probe --------------------------------------------------------------------------------------------

#: `claude --version` takes 0.4 s; a machine under load a few times that.
_VERSION_S: Final = 10.0
_KEYS: Final = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CODE_USE_FOUNDRY",
)


async def probe(environ: Mapping[str, str]) -> Probe:
    path = shutil.which(PROGRAM, path=environ.get("PATH"))
    if path is None:
        return Probe(None, advice=INSTALL)
    version = await _version(path, environ)
    if version is None:
        return Probe(path, advice=f"`{path} --version` does not answer: {INSTALL}")
    login = await anyio.to_thread.run_sync(_login, environ)
    advice = "run `claude` and log in, or set ANTHROPIC_API_KEY" if login == "no" else None
    return Probe(path, version, login, advice)


async def _version(path: str, environ: Mapping[str, str]) -> str | None:
    try:
        with anyio.fail_after(_VERSION_S):
            done = await anyio.run_process([path, "--version"], env=dict(environ), check=False)
    except (OSError, TimeoutError):
        return None
    said = re.match(rb"\d[\w.+-]*", done.stdout.strip())
    return said[0].decode() if said else None


def _login(environ: Mapping[str, str]) -> str:
    """Only whether there is something to log in with; nothing secret is read."""
    if any(environ.get(key) for key in _KEYS):
        return "yes"
    folder = config_folder(environ)
    if (folder / ".credentials.json").exists():
        return "yes"
    # Settings may name a helper program or set a key, and the keychain of macOS is not a file.
    return "unknown" if (folder / "settings.json").exists() else "no"


__all__ = [
    "READ_ONLY_TOOLS",
    "check_arguments",
    "checked_instructions",
    "exit_class",
    "overlay",
    "plan",
    "probe",
    "program",
    "start_error",
]

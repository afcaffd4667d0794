"""Starting the child: a plan from the wire, checked, to a running process with our ends of its I/O.

The holder has one thread, so it may fork and run Python in the fork. `exec` errors come back over a
close-on-exec pipe; nothing half-started is left.
"""

from __future__ import annotations

import os
import signal

from ptyprocess import PtyProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

#: Of a terminal; `struct winsize` holds unsigned shorts.
MAX_SIZE = 65_535
DEFAULT_TERM = "xterm-256color"


class SpawnError(Exception):
    """The child could not be started. The message names what and why."""


class Plan:
    """What to execute. `env` is laid over the session's; None removes a name."""

    def __init__(self, argv: list[str], cwd: str, env: dict[str, str | None]) -> None:
        self.argv = argv
        self.cwd = cwd
        self.env = env
        self.pty = False
        self.rows = 0  # of the terminal
        self.cols = 0


class Child:
    """A running child. `stdin` is -1 when closed. `outs` has our reading ends and their streams."""

    def __init__(self, pid: int, pty: bool, stdin: int, outs: dict[int, str]) -> None:
        self.pid = pid
        self.pty = pty
        self.stdin = stdin
        self.outs = outs


def parse_plan(value: object) -> Plan:
    """Raises `SpawnError` for anything that is not a plan."""
    if not isinstance(value, dict):
        raise SpawnError("the plan is not an object")
    argv, env = value.get("argv"), value.get("env", {})
    if not isinstance(argv, list) or not argv or not all(_is_word(word) for word in argv):
        raise SpawnError("argv must be a list of strings without NUL, and not empty")
    if not isinstance(env, dict) or not all(
        _is_name(name) and (text is None or _is_word(text)) for name, text in env.items()
    ):
        raise SpawnError("env must map names to strings without NUL, or to null")
    cwd, io = value.get("cwd"), value.get("io")
    if not _is_word(cwd) or not os.path.isabs(str(cwd)):
        raise SpawnError("cwd must be an absolute path")
    if io not in ("pipes", "pty"):
        raise SpawnError("io must be pipes or pty")
    plan = Plan(argv, str(cwd), env)
    plan.pty = io == "pty"
    plan.rows, plan.cols = parse_size(value)
    return plan


def parse_size(value: dict[str, object]) -> tuple[int, int]:
    """(rows, cols). Raises `SpawnError`."""
    rows, cols = value.get("rows", 40), value.get("cols", 120)
    for size in (rows, cols):
        if not isinstance(size, int) or not 0 < size <= MAX_SIZE:
            raise SpawnError(f"rows and cols must be whole numbers from 1 to {MAX_SIZE}")
    assert isinstance(rows, int) and isinstance(cols, int)
    return rows, cols


def is_environ(value: dict[object, object]) -> bool:
    return all(_is_name(name) and _is_word(text) for name, text in value.items())


def overlay(environ: dict[str, str], plan: Plan, session_id: str) -> dict[str, str]:
    """The child's environment."""
    env = dict(environ)
    for name, text in plan.env.items():
        if text is None:
            env.pop(name, None)
        else:
            env[name] = text
    if plan.pty:
        env.setdefault("TERM", DEFAULT_TERM)
    # By this the session's processes are known should the holder itself be killed.
    env["RELAY_RUNTIME_SESSION"] = session_id
    return env


def spawn(plan: Plan, env: dict[str, str]) -> Child:
    """Raises `SpawnError`."""
    if not os.path.isdir(plan.cwd):
        raise SpawnError(f"the folder {plan.cwd} does not exist; create it or choose another")
    program = find_program(plan.argv[0], plan.cwd, env.get("PATH", os.defpath))
    try:
        return _spawn_pty(program, plan, env) if plan.pty else _spawn_pipes(program, plan, env)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SpawnError(f"cannot execute {program} in {plan.cwd}: {reason}") from None


def find_program(name: str, cwd: str, path: str) -> str:
    """Its absolute path, looked up as the session's shell would."""
    if "/" in name:
        return os.path.join(cwd, name)
    for folder in path.split(os.pathsep):
        candidate = os.path.join(cwd, folder or ".", name)
        if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
            return candidate
    raise SpawnError(f"{name} was not found on the session's PATH; install it or correct PATH")


def _is_word(text: object) -> bool:
    """Whether exec can take it."""
    if not isinstance(text, str) or "\0" in text:
        return False
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _is_name(text: object) -> bool:
    return _is_word(text) and text != "" and "=" not in str(text)


def _prepare(cwd: str) -> None:
    """In the child, just before exec."""
    # An ignored signal stays ignored over exec, whoever ignored it: we, Python, or a `nohup`.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    os.umask(_inherited_umask)
    os.chdir(cwd)


def remember_umask(mask: int) -> None:
    """The holder itself works with 077; its child gets the mask the holder was started with."""
    global _inherited_umask
    _inherited_umask = mask


_inherited_umask = 0o022


def _spawn_pty(program: str, plan: Plan, env: dict[str, str]) -> Child:
    # The folder is changed by our own hook: in ptyprocess a failing chdir would raise in the fork,
    # outside of what it reports, and leave a second holder running.
    process = PtyProcess.spawn(
        [program, *plan.argv[1:]],
        env=env,
        preexec_fn=lambda: _prepare(plan.cwd),
        dimensions=(plan.rows, plan.cols),
    )
    master = os.dup(process.fd)
    # Its `close` would sleep and kill; from here on the descriptor and the process are ours.
    process.fileobj.close()
    process.closed = True
    os.set_blocking(master, False)
    return Child(process.pid, True, master, {master: "out"})


def _spawn_pipes(program: str, plan: Plan, env: dict[str, str]) -> Child:
    opened: list[int] = []
    try:
        for _ in range(4):
            opened += os.pipe()
        stdin_r, stdin_w, out_r, out_w, err_r, err_w, report_r, report_w = opened
        pid = os.fork()
        if pid == 0:
            _become(program, plan, env, (stdin_r, out_w, err_w), report_w)
        for fd in (stdin_r, out_w, err_w, report_w):
            os.close(fd)
            opened.remove(fd)
        problem = os.read(report_r, 64)
        if problem:
            os.waitpid(pid, 0)
            raise OSError(int(problem), os.strerror(int(problem)))
        os.close(report_r)
    except BaseException:
        for fd in opened:
            os.close(fd)
        raise
    for fd in (stdin_w, out_r, err_r):
        os.set_blocking(fd, False)
    return Child(pid, False, stdin_w, {out_r: "out", err_r: "err"})


def _become(
    program: str, plan: Plan, env: dict[str, str], streams: tuple[int, int, int], report: int
) -> NoReturn:
    """The fork's side. Reports an errno and ends, or is the program."""
    try:
        os.setsid()
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        _prepare(plan.cwd)
        os.execve(program, plan.argv, env)
    except OSError as error:
        os.write(report, b"%d" % (error.errno or 0))
    finally:
        os._exit(127)

"""Commands on what this machine can run: harnesses, doctor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import output
from .caller import working_directory
from .failure import Exit, fail
from .options import AsJson

if TYPE_CHECKING:
    from ..contract import Harness
    from ..doctor import Report


def harnesses(json: AsJson = False) -> None:
    """List what can be spawned, and what each can do."""
    from .. import registry

    found: list[dict[str, object]] = []
    problems: list[str] = []
    for name in registry.names():
        try:
            found.append(_abilities(name, registry.load(name)))
        except registry.RegistryError as error:
            problems.append(str(error))
    if json:
        output.say_json(found)
    else:
        header = ("NAME", "MODES", "STEER", "INTERRUPT", "RESUME", "PERMISSIONS", "PROOF")
        output.say(output.table(header, [_row(one) for one in found]))
    for problem in problems:
        output.note(f"relay-runtime: {output.one_line(problem, 500)}")


def doctor(json: AsJson = False) -> None:
    """Check this machine: each agent's program, version and login, and our own state."""
    from dataclasses import asdict

    import anyio

    from ..doctor import examine

    report = anyio.run(examine, dict(os.environ), working_directory())
    if json:
        output.say_json({"broken": report.broken, **asdict(report)})
    else:
        _print(report)
    if report.broken:
        fail(Exit.FAILED, f"{report.broken} to mend: see `broken` above")


def _abilities(name: str, harness: Harness) -> dict[str, object]:
    can = harness.capabilities
    return {
        "name": name,
        "modes": sorted(can.modes),
        "default_mode": harness.default_mode,
        "boundary": can.boundary,
        "evidence": can.evidence,
        "steer": can.steer,
        "interrupt": can.interrupt,
        "resume": can.resume,
        "permissions": can.permissions,
    }


def _row(found: dict[str, object]) -> list[str]:
    modes = found["modes"]
    assert isinstance(modes, list)
    default = found["default_mode"]
    shown = ", ".join(f"{mode}*" if mode == default and len(modes) > 1 else mode for mode in modes)
    abilities = [
        "yes" if found[key] else "no" for key in ("steer", "interrupt", "resume", "permissions")
    ]
    return [str(found["name"]), shown, *abilities, str(found["evidence"])]


def _print(report: Report) -> None:
    rows = [
        (one.verdict, one.subject, output.one_line(one.detail, 300), one.advice or "")
        for one in report.findings
    ]
    for one in report.harnesses:
        version = f"{one.version or 'version unknown'}, login {one.login}"
        detail = f"{one.path} ({version})" if one.path else "not found"
        rows.append((one.verdict, one.name, output.one_line(detail, 300), one.advice or ""))
    width = max(len(subject) for _, subject, _, _ in rows)
    for verdict, subject, detail, advice in rows:
        output.say(f"{output.state(verdict)}{' ' * (7 - len(verdict))}{subject:<{width}}  {detail}")
        if advice:
            output.say(f"{' ' * (9 + width)}{output.one_line(advice, 300)}")


__all__ = ["doctor", "harnesses"]

"""The command that shows the promises on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import output
from .failure import Exit, fail
from .options import AsJson

if TYPE_CHECKING:
    from ..demo.play import Proof


def demo(json: AsJson = False) -> None:
    """Show it all on this machine: no account, no token spent, no network."""
    import anyio

    from ..demo.play import play
    from ..demo.screen import screen

    if json:
        proof = anyio.run(play, lambda board: None)
    else:
        with screen() as show:
            proof = anyio.run(play, show)
    _tell(proof, json)
    if not proof.holds:
        fail(Exit.FAILED, "the demonstration did not hold what it promises; see above")


def _tell(proof: Proof, json: bool) -> None:
    if json:
        from dataclasses import asdict

        output.say_json({**asdict(proof), "holds": proof.holds})
        return
    lost = f"lost {proof.lost}" if proof.lost else "none lost"
    twice = f"given twice {proof.twice}" if proof.twice else "none given twice"
    kept = "the same processes" if proof.same_processes else "OTHER PROCESSES"
    output.say("")
    output.say("What was proven, by the agents' own model requests and logs:")
    output.say(f"  {proof.delivered} of {proof.messages} messages delivered, {lost}, {twice}")
    output.say(f"  {proof.deferred} of them waited for a turn boundary, and their receipts said so")
    output.say(
        f"  kill -9 of the supervisor: back in {proof.recovery_s:.2f} s, "
        f"{len(proof.agents)} agents still {kept}"
    )
    output.say(f"  after the end: {proof.processes_left} processes left")

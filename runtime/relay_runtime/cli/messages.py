"""Commands on messages: send one, look at its receipts."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import uuid4

import typer

from .. import paths
from . import output
from .caller import default_sender
from .control import supervisor
from .failure import Exit, fail
from .options import AsJson

if TYPE_CHECKING:
    from ..control_answers import Delivery, Proof, Receipt, Receipts, Sent
    from ..control_client import ControlClient

#: An agent may work for minutes before its next turn boundary.
WAIT_S = 300.0
#: Of one request; the wait goes on with the next.
LONG_POLL_S = 30.0
#: More than any relay takes, so that it is the relay that says what its limit is.
MAX_STDIN_BYTES = 16 * 1024 * 1024
#: A message carries a key, so handing it over again after a lost answer cannot double it.
SEND_ATTEMPTS = 3


def send(
    target: Annotated[
        str, typer.Argument(help="Agent id or name, label:…, tag:…, cap:… or broadcast.")
    ],
    text: Annotated[str, typer.Argument(help="The message; - reads it from standard input.")],
    sender: Annotated[
        str | None,
        typer.Option("--from", help="Who says it; default: this session's agent, or user@host."),
    ] = None,
    thread: Annotated[
        int | None, typer.Option(min=0, help="Message that this one answers.")
    ] = None,
    steer: Annotated[bool, typer.Option("--steer", help="Enter the running turn.")] = False,
    interrupt: Annotated[
        bool, typer.Option("--interrupt", help="Stop the running turn first.")
    ] = False,
    ttl: Annotated[
        float | None, typer.Option(min=0, help="Seconds after which it must not go in any more.")
    ] = None,
    wait: Annotated[
        Literal["accepted", "delivered"] | None, typer.Option(help="Until all of it is.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds that --wait may take.")] = WAIT_S,
    json: AsJson = False,
) -> None:
    """Send a message, which goes in at the next turn boundary."""
    if steer and interrupt:
        fail(Exit.USAGE, "choose --steer or --interrupt, not both")
    message: dict[str, object] = {
        "from": default_sender() if sender is None else sender,
        "to": target,
        "body": _body(text),
        "thread_id": thread,
        "mode": "steer" if steer else "interrupt" if interrupt else "next-turn",
        "ttl_s": ttl,
        "idempotency_key": uuid4().hex,
    }
    deadline = time.monotonic() + timeout
    with supervisor(start=True) as control:
        sent = hand_over(control, message)
        if wait:
            with output.progress(f"message {sent['message_id']}: until {wait}", shown=not json):
                sent = _wait(control, sent, wait, deadline)
    _show_sent(sent, json)
    if wait:
        _judge(sent, wait, timeout)


def receipts(
    message_id: Annotated[int, typer.Argument(min=0, help="Number of the message.")],
    json: AsJson = False,
) -> None:
    """Show everything that happened to a message, oldest first."""
    with supervisor() as control:
        found = control.receipts(message_id)
    if json:
        output.say_json(found)
    else:
        output.say(_receipt_table(found))


def _body(text: str) -> str:
    if text != "-":
        return text or fail(Exit.USAGE, "the message is empty")
    try:
        body = sys.stdin.buffer.read(MAX_STDIN_BYTES).decode()
    except UnicodeDecodeError as error:
        fail(Exit.USAGE, f"standard input is not UTF-8 text (byte {error.start})")
    return body or fail(Exit.USAGE, "standard input is empty")


def hand_over(control: ControlClient, message: dict[str, object]) -> Sent:
    """Give the relay a message that has an idempotency key, also when the supervisor goes away."""
    from ..control_client import NotRunning, Unavailable
    from .launch import ensure_supervisor

    for attempt in range(1, SEND_ATTEMPTS + 1):
        try:
            return control.send(message)
        except Unavailable as error:
            if error.code or attempt == SEND_ATTEMPTS:
                raise
            if not isinstance(error, NotRunning):
                output.note("relay-runtime: the supervisor went away; sending again")
            ensure_supervisor(paths.home())
    raise AssertionError("unreachable")


def _wait(control: ControlClient, sent: Sent, until: str, deadline: float) -> Sent:
    while True:
        left = max(0.0, deadline - time.monotonic())
        found = control.receipts(sent["message_id"], until=until, wait_s=min(left, LONG_POLL_S))
        sent = {"message_id": sent["message_id"], "deliveries": found["deliveries"]}
        if not left or all(_settled(one, until) for one in sent["deliveries"]):
            return sent


def _settled(delivery: Delivery, until: str) -> bool:
    done = {"delivered", "failed"}
    if until == "accepted":
        done |= {"accepted", "deferred"}
    return delivery["status"] in done


def _judge(sent: Sent, until: str, timeout: float) -> None:
    """What `--wait` promises: exit 0 only when every delivery got that far."""
    waiting = [one for one in sent["deliveries"] if not _settled(one, until)]
    failed = [one for one in sent["deliveries"] if one["status"] == "failed"]
    if failed:
        why = failed[0]["reason"] or "without a reason"
        fail(Exit.FAILED, f"not delivered to {failed[0]['agent_id']}: {why}")
    if waiting:
        more = f"relay-runtime receipts {sent['message_id']}"
        fail(
            Exit.TIMEOUT,
            f"not {until} to {waiting[0]['agent_id']} after {timeout:g} s "
            f"(it is {waiting[0]['status']}): see `{more}`",
        )


def _show_sent(sent: Sent, json: bool) -> None:
    if json:
        output.say_json(sent)
        return
    for one in sent["deliveries"]:
        line = f"message {sent['message_id']} to {one['agent_id']}: {output.state(one['status'])}"
        output.say(line + _detail(one["reason"], one["evidence"]))


def _receipt_table(found: Receipts) -> str:
    header = ("AT", "AGENT", "STATUS", "REASON OR EVIDENCE")
    return output.table(header, [_receipt_row(one) for one in found["receipts"]])


def _receipt_row(receipt: Receipt) -> tuple[str, ...]:
    detail = _detail(receipt["reason"], receipt["evidence"]).strip(" ()")
    return (
        output.clock(receipt["at"]),
        receipt["agent_id"],
        output.state(receipt["status"]),
        detail,
    )


def _detail(reason: str | None, evidence: Proof | None) -> str:
    if evidence:
        return f" ({output.one_line(evidence['kind'] + ' ' + evidence['reference'])})"
    return f" ({output.one_line(reason)})" if reason else ""


__all__ = ["hand_over", "receipts", "send"]

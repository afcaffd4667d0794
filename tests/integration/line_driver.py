"""A whole driver in little, for a program that takes lines: what the bench and the checks run on.

The program keeps its own record of what it took in, as real harnesses do, and numbers its turns.
"""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from relay_runtime.contract import (
    Capabilities,
    Context,
    Handed,
    Harness,
    Injection,
    Io,
    Json,
    Mode,
    Probe,
    Receipt,
    Session,
    SessionSpec,
    Settlement,
    StartPlan,
    StopPlan,
    Stream,
    Verdict,
)
from relay_runtime.events import (
    Event,
    Evidence,
    Idle,
    Outcome,
    Proven,
    SessionReady,
    TurnEnded,
    TurnStarted,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = """
import json, os, sys, uuid
def say(**line): print(json.dumps(line), flush=True)
record = open(sys.argv[1], "a", 1)
os.spawnlp(os.P_NOWAIT, "setsid", "setsid", "sleep", "1000")
say(kind="ready", conversation=sys.argv[1])
for line in sys.stdin:
    write, turn = json.loads(line)["id"], str(uuid.uuid4())
    say(kind="started", turn=turn)
    record.write(write + "\\n")
    say(kind="took", id=write)
    say(kind="ended", turn=turn)
"""


class LineHarness(Harness):
    name = "line"
    capabilities = Capabilities(frozenset({Mode.HEADLESS}), "line.ended", "line.took")
    default_mode = Mode.HEADLESS

    async def create(self, spec: SessionSpec, ctx: Context) -> LineSession:
        record = spec.conversation or str(Path(spec.state_dir, f"record-{uuid.uuid4()}"))
        argv = (sys.executable, "-I", "-S", "-c", PROGRAM, record)
        status = await ctx.holder.start(StartPlan(argv, spec.cwd, Io.PIPES))
        return self.session(ctx, status.offsets[Stream.OUT])

    async def adopt(self, spec: SessionSpec, ctx: Context) -> LineSession:
        assert isinstance(ctx.checkpoint, dict)
        offset = ctx.checkpoint["offset"]
        assert isinstance(offset, int)
        session = self.session(ctx, offset)
        session.record = str(ctx.checkpoint["record"])
        session.turn = _text(ctx.checkpoint["turn"])
        session.adopted = True
        return session

    def session(self, ctx: Context, offset: int) -> LineSession:
        return LineSession(ctx, offset)

    async def probe(self, environ: Mapping[str, str]) -> Probe:
        found = environ["PATH"] != "/nonexistent"
        return Probe(sys.executable) if found else Probe(None, advice="install it")


class LineSession(Session):
    capabilities = LineHarness.capabilities

    def __init__(self, ctx: Context, offset: int) -> None:
        self.ctx = ctx
        self.offset = offset
        self.record = ""
        self.turn: str | None = None
        self.adopted = False

    async def run(self) -> None:
        if self.adopted and self.turn is None:
            await self.ctx.emit(Idle())
        rest = b""
        async for chunk in self.ctx.holder.read(Stream.OUT, self.offset):
            rest += chunk.data
            while b"\n" in rest:
                line, _, rest = rest.partition(b"\n")
                self.offset += len(line) + 1
                events = self.understand(json.loads(line))
                await self.ctx.emit(*events, checkpoint=self.checkpoint())

    def understand(self, line: dict[str, str]) -> list[Event]:
        if line["kind"] == "ready":
            self.record = line["conversation"]
            return [SessionReady(line["conversation"]), Idle()]
        if line["kind"] == "started":
            self.turn = line["turn"]
            return [TurnStarted(line["turn"])]
        if line["kind"] == "took":
            return [Proven(line["id"], Evidence("line.took", line["id"], self.turn))]
        self.turn = None
        return [TurnEnded(line["turn"], Outcome.COMPLETED), Idle()]

    def checkpoint(self) -> Json:
        return {"offset": self.offset, "record": self.record, "turn": self.turn}

    async def receive_message(self, injection: Injection) -> Receipt:
        line = json.dumps({"id": injection.write_id, "text": injection.text})
        await self.ctx.holder.write(line.encode() + b"\n", injection.seq)
        return Receipt(Handed.ACCEPTED)

    async def settle(self, write_id: str) -> Settlement:
        with open(self.record, encoding="utf-8") as record:  # noqa: ASYNC230 - tiny
            if write_id in record.read().split():
                return Settlement(Verdict.PRESENT, Evidence("line.record", write_id))
        return Settlement(Verdict.ABSENT)

    async def interrupt(self) -> None:
        pass

    async def answer(self, request_id: str, allow: bool, message: str | None = None) -> None:
        raise KeyError(request_id)

    async def drain(self) -> None:
        await self.ctx.holder.close_input()

    async def release(self, stop: StopPlan) -> None:
        await self.ctx.holder.stop(stop)


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


__all__ = ["LineHarness", "LineSession"]

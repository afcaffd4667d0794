"""From the start of Claude until it takes input: what it asks before that is for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from relay_runtime.events import Notice

from ..transcript import config_folder
from . import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .dialogues import Dialogue
    from .live import Live

#: A dialogue is drawn in several pieces.
DRAWN_S: Final = 0.25


class Starting:
    """Nothing is typed but answers that the profile has, each once."""

    def __init__(self, live: Live, environ: Mapping[str, str]) -> None:
        self._live = live
        self._environ = environ

    async def run(self) -> None:
        """Until Claude takes input: report what it asks before."""
        live = self._live
        while not live.state.ready:
            shown, told = live.shown, live.told
            screen = live.view.read()
            if screen is not None and screen.input != "none" and live.state.began:
                await self._say_ready()
                return
            if screen is not None and anyio.current_time() - live.view.changed_at < DRAWN_S:
                with anyio.move_on_after(DRAWN_S):
                    await shown.wait()
                    continue
            if screen is not None:
                await self._asks(screen.dialogue)
            async with anyio.create_task_group() as either:

                async def wait(event: anyio.Event) -> None:
                    await event.wait()
                    either.cancel_scope.cancel()

                either.start_soon(wait, shown)
                either.start_soon(wait, told)

    async def _say_ready(self) -> None:
        live = self._live
        live.state.version = await anyio.to_thread.run_sync(self._version) or live.state.version
        async with live.changing:
            await live.commit(live.fold.ready())
        live.wanted.set()

    def _version(self) -> str | None:
        """Claude writes it into its list of sessions."""
        for file in (config_folder(self._environ) / "sessions").glob("*.json"):
            try:
                entry: object = json.loads(file.read_bytes())
            except (OSError, ValueError):
                continue
            match entry:
                case {"sessionId": self._live.state.conversation, "version": str(version)}:
                    return version
        return None

    async def _asks(self, dialogue: Dialogue | None) -> None:
        live, state = self._live, self._live.state
        async with live.changing:
            words = "" if dialogue is None else " · ".join((dialogue.text, *dialogue.options))
            if words == state.asked:
                return
            state.asked = words
            events = live.fold.startup_dialogue_gone()
            if dialogue is None:
                await live.commit(events)
                return
            answers = enumerate(live.options.startup)
            for number, answer in answers:
                if number not in state.answers and answer.expect.search(words):
                    # Noted first: one that is lost is reported the next time it shows, one that is
                    # given twice answers the next question.
                    state.answers.append(number)
                    notice = Notice("claude.answered", f"{dialogue.kind}: {dialogue.text}")
                    await live.commit([*events, notice])
                    await live.type_quietly(keys.strokes(answer.answer))
                    return
            await live.commit([*events, *live.fold.startup_dialogue(dialogue.kind, words)])


__all__ = ["DRAWN_S", "Starting"]

"""Upstream calls that no client waits for: a prompt answered afresh, and a model's opinion.

Both go the way of any prompt, through a flight of their own, so that routing, breakers, purges and
storing are what they always are.
"""

import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from edge.ask import Ask, Query
from edge.collapse import Collapse, Flight, Whole
from edge.policy import Allowed, Mode
from index.entry import CacheKey, Instant

_QUESTION = """\
Two answers to the same question follow. Do they tell the reader the same, so that either could \
be given instead of the other? Wording, length and order do not matter; facts, numbers, names and \
advice do. Reply with the single word YES or NO.

Answer 1:
{one}

Answer 2:
{other}"""
_SHOWN_CHARS = 4_000
"""Of each answer, what the judge is shown."""
_NOTHING = Allowed(Mode.OFF, lookup=False, store=False)


class Refill:
    def __init__(
        self,
        collapse: Collapse,
        fill: Callable[[Ask, Flight], Coroutine[Any, Any, None]],
        judge_model: str,
        monotonic: Callable[[], Instant],
        new_id: Callable[[], str],
    ) -> None:
        self._collapse = collapse
        self._fill = fill
        self._judge_model = judge_model
        self._monotonic = monotonic
        self._new_id = new_id
        self.spent_tokens = 0
        """What these calls cost, as the upstream counts; set it back when a new budget begins."""

    async def fresh(self, query: Query) -> bytes:
        """The answer to a prompt as if it had come with `no-cache`; it is remembered.

        Raises:
            EdgeError: no upstream has one.
        """
        wishes = replace(query.allowed, lookup=False, only_if_cached=False)
        return await self._ask(replace(query, allowed=wishes))

    async def alike(self, query: Query, one: str, other: str) -> bool | None:
        """Do two answers say the same? None: there is no judge, or it does not say.

        Raises:
            EdgeError: no upstream has the judge.
        """
        if not self._judge_model:
            return None
        text = _QUESTION.format(one=one[:_SHOWN_CHARS], other=other[:_SHOWN_CHARS])
        body = query.dialect.request(self._judge_model, text)
        call = query.dialect.parse(body)
        asked = replace(query, body=body, call=call, key=CacheKey(b""), allowed=_NOTHING)
        reply = query.dialect.words(json.loads(await self._ask(asked))).strip().upper()
        return {"YES": True, "NO": False}.get(reply.rstrip(".!"))

    async def _ask(self, query: Query) -> bytes:
        # No stand-in may judge, or be what another answer is judged by.
        route = replace(query.route, local=False)
        whole = replace(query, call=replace(query.call, stream=False), route=route)
        ask = Ask(whole, self._monotonic(), self._new_id())
        flight, _ = self._collapse.join(None, lambda one: self._fill(ask, one))
        outcome = await flight.held()
        assert isinstance(outcome, Whole), "it was not looked up"
        tokens = query.dialect.tokens(json.loads(outcome.body))
        self.spent_tokens += tokens or (len(query.body) + len(outcome.body)) // 4
        return outcome.body

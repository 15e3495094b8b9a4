"""What a client may say of an answer it got, and ask about it: `/v1/feedback` and `/v1/explain`.

Both name the answer by its `X-Request-Id`, and both are for whoever may read the scope that it came
from: another tenant's requests do not exist here.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from edge import json_body
from edge.decisions import Decided, Decisions, explained
from edge.errors import ClientError
from index.answers import Answers
from index.entry import SHARED, Purge, Scope

log = logging.getLogger("feedback")

FEEDBACK, EXPLAIN = "feedback", "explain"
PATHS: Mapping[str, str] = {
    "/v1/feedback": FEEDBACK,
    "/feedback": FEEDBACK,
    "/v1/explain": EXPLAIN,
    "/explain": EXPLAIN,
}
"""Where clients post, with and without `/v1`, and what for."""

OWNED = "tenant:"
"""How scopes begin that somebody owns; nobody owns the shared one."""


class Feedback:
    def __init__(
        self,
        answers: Answers,
        decisions: Decisions,
        reader: Executor,
        renew: Callable[[], None],
        purge: Callable[[Purge], Coroutine[Any, Any, bool]],
    ) -> None:
        """`renew` sees to it that what is in flight is not handed to those who come now. `purge`
        says whether other nodes are told."""
        self._answers = answers
        self._decisions = decisions
        self._reader = reader
        self._renew = renew
        self._purge = purge

    async def __call__(self, path: str, scope: Scope, body: bytes) -> bytes:
        """The answer, as JSON. Raises ClientError."""
        document = json_body.read_object(body)
        if PATHS[path] == EXPLAIN:
            decided = self._named(document, scope, known={"request_id"})
            found = explained(
                decided, self._answers.labels.report_of(decided.kind), owner=scope.startswith(OWNED)
            )
        else:
            decided = self._named(document, scope, known={"request_id", "verdict"})
            if document.get("verdict", "wrong") != "wrong":
                raise ClientError(
                    'The only verdict there is something to do about is "wrong".', param="verdict"
                )
            found = await self._quarantine(decided)
        return json.dumps(found, ensure_ascii=False).encode()

    def _named(self, document: dict[str, Any], scope: Scope, known: set[str]) -> Decided:
        if unknown := document.keys() - known:
            raise ClientError(
                f"Unknown: {', '.join(sorted(unknown))}. Known here: {', '.join(sorted(known))}.",
                code="unknown_parameter",
            )
        name = document.get("request_id")
        if not isinstance(name, str):
            raise ClientError(
                "Name the answer: send the X-Request-Id that came with it as `request_id`.",
                param="request_id",
            )
        decided = self._decisions.of(name)
        if decided is None or decided.scope != scope:
            raise ClientError(
                "No such answer is remembered here. Only the latest are, on the node that gave "
                "them. Send the prompt again with Cache-Control: no-cache for a fresh answer.",
                status=404,
                code="unknown_request",
                param="request_id",
            )
        return decided

    async def _quarantine(self, decided: Decided) -> dict[str, Any]:
        """At once: when this returns, the answer is not served so again."""
        loop = asyncio.get_running_loop()
        reach = "node"
        if decided.complained:
            what, reach = decided.complained
        elif decided.chosen is not None and decided.question is not None:
            what, question, chosen = "pair", decided.question, decided.chosen
            complain = self._answers.labels.complained
            await loop.run_in_executor(self._reader, complain, decided.kind, question, chosen)
        else:
            what = "answer"
            purges = [Purge(scope=decided.scope, key=decided.key)]
            if decided.shared_key is not None:
                purges.append(Purge(scope=SHARED, key=decided.shared_key))
            told = [await self._purge(purge) for purge in purges]
            reach = "fleet" if all(told) else "node"
        self._renew()
        self._decisions.note(replace(decided, complained=(what, reach)))
        log.warning(
            "event=feedback rid=%s quarantined=%s reach=%s", decided.request_id, what, reach
        )
        return {
            "object": "feedback",
            "request_id": decided.request_id,
            "verdict": "wrong",
            "quarantined": what,
            "reach": reach,
        }

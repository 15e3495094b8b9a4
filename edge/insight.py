"""Why an answer was served by meaning, or not; and how well the bound is kept. For operators."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from edge.batcher import Batcher
from edge.decisions import Decided, Decisions, bound, class_gauges, explained
from edge.dialects import Dialect
from edge.errors import EdgeError
from edge.policy import CacheSettings, RouteSettings, kind_of, route
from index import prompt
from index.answers import Answers
from index.control import ClassReport
from index.decision import Miss, verdict
from index.entry import CacheKey, Question, Scope
from index.prompt import Prompt


class Insight:
    def __init__(
        self,
        answers: Answers,
        batcher: Batcher,
        decisions: Decisions,
        dialect: Dialect,
        routes: Sequence[RouteSettings],
        cache: CacheSettings,
        secret: bytes,
        worker: Executor,
    ) -> None:
        """`worker` is the thread that searches."""
        self._answers = answers
        self._batcher = batcher
        self._decisions = decisions
        self._dialect = dialect
        self._routes = tuple(routes)
        self._cache = cache
        self._secret = secret
        self._worker = worker

    def of(self, request_id: str) -> Mapping[str, Any] | None:
        """How one of the latest requests was decided; None if it is not remembered."""
        decided = self._decisions.of(request_id)
        if decided is None:
            return None
        return explained(decided, self._report(decided.kind), owner=True)

    async def about(self, scope: Scope, body: bytes) -> Mapping[str, Any]:
        """How a request would be decided now. Raises ValueError."""
        asked = self._parsed(body)
        rules = route(asked.model, self._routes, self._cache)
        routed = prompt.route(asked, scope, self._secret, rules.classes)
        kind = kind_of(scope, rules, routed.cls)
        decided = Decided("", scope, prompt.exact_key(asked, scope, self._secret))
        if routed.asked is None:
            decided = decided.missed(Miss(f"{routed.cls}:{routed.reason}"))
        else:
            decided = await self._judged(decided.about(kind, routed.asked), routed.asked)
        return explained(decided, self._report(kind), owner=True)

    def key_of(self, scope: Scope, body: bytes) -> CacheKey:
        """The key of a request's answer. Raises ValueError."""
        return prompt.exact_key(self._parsed(body), scope, self._secret)

    def _parsed(self, body: bytes) -> Prompt:
        try:
            return self._dialect.parse(body).prompt
        except EdgeError as exc:
            raise ValueError(exc.message) from exc

    async def _judged(self, decided: Decided, question: Question) -> Decided:
        made = await self._batcher.similar(decided.scope, question, decided.kind, search=False)
        if made.vector is None:
            assert isinstance(made.found, Miss), "it was not searched for"
            return decided.missed(made.found)
        judged = await asyncio.get_running_loop().run_in_executor(
            self._worker, self._answers.similar.weigh, question, made.vector, decided.kind
        )
        return decided.now(verdict(judged))

    def bounds(self) -> dict[str, Any]:
        """What is promised of answers by meaning, and how well it is kept, class by class."""
        labels = self._answers.labels
        return {
            "max_error": labels.settings.max_error,
            "classes": [bound(one) for one in labels.report()],
            "refuted_pairs": labels.refuted,
        }

    def gauges(self) -> list[tuple[str, Mapping[str, float]]]:
        """The same as numbers, by class."""
        return [(one.name, class_gauges(one)) for one in self._answers.labels.report()]

    def _report(self, kind: str) -> ClassReport | None:
        return self._answers.labels.report_of(kind)

"""Answers shared across tenants: what enough of them asked by themselves, and word for word only.

A tenant's answers are its own. On routes where the operator allows it (`shared = true`) there is a
pool beside them, the scope `shared`, that all tenants may read, by exact key alone, so that nobody
can plant an answer to a prompt that somebody else words differently. An answer enters the pool when
`tenants_min` distinct tenants have sent this very request, system prompt, parameters and all. What
enters is what the upstream said to that request as this node put it; no client can hand one in.

That so many sent the same text already says that it is private to none of them. The rest is belt
and braces: one turn, no personal data or secret as far as rules can tell, and no address in the
answer that the prompt did not speak of.

Source of the threat: "When Cache Poisoning Meets LLM Systems", NDSS 2026.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from index.eligibility import reasons, tells_a_secret
from index.entry import CacheKey, Scope

PROMPTS_MAX = 65_536
"""Requests whose tenants are counted; the one asked for longest ago is forgotten first."""

_PRIVATE_TO_NOBODY = ("time-bound", "maths", "too-short")
"""Of the gate's reasons, those that do not speak of somebody's own data."""

_ADDRESS = re.compile(r"(?:https?://|www\.)[^\s\"'<>()\[\]]+|[\w.+-]+@[\w-]+\.[\w.-]+", re.I)


@dataclass(frozen=True, slots=True)
class SharingSettings:
    """What tenants share on routes with `shared = true`."""

    tenants_min: Annotated[int, Ge(2)] = 3
    """How many tenants must have sent the very same request before all may have its answer."""


class Sharing:
    def __init__(self, settings: SharingSettings) -> None:
        self._tenants_min = settings.tenants_min
        self._asked: OrderedDict[CacheKey, set[Scope]] = OrderedDict()

    def asked(self, key: CacheKey, by: Scope) -> bool:
        """Count a tenant's request, by its key in the pool. Have enough of them sent it?"""
        tenants = self._asked.setdefault(key, set())
        self._asked.move_to_end(key)
        if len(tenants) < self._tenants_min:
            tenants.add(by)
        if len(self._asked) > PROMPTS_MAX:
            self._asked.popitem(last=False)
        return len(tenants) >= self._tenants_min

    def __len__(self) -> int:
        return len(self._asked)


def unfit(request: Mapping[str, Any], answer: str) -> str | None:
    """Why an answer stays its tenant's own, however many ask for it; None if it may be shared.

    `request` is the canonical one, `answer` the words of the answer.
    """
    *instructions, asked = request["messages"]
    if request.get("user"):
        return "user"
    if any(message["role"] not in ("system", "developer") for message in instructions):
        return "conversation"
    if not isinstance(asked["content"], str):
        return "no-text"
    for reason in reasons(asked["content"]):
        if reason not in _PRIVATE_TO_NOBODY:
            return reason
    spoken_of = str(request)
    if tells_a_secret(spoken_of) or tells_a_secret(answer):
        return "secret"
    if any(address not in spoken_of for address in _ADDRESS.findall(answer)):
        return "address"
    return None

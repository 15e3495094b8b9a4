"""What one request needs of an upstream, and what is usual among them all."""

from dataclasses import dataclass

ANSWER_SHARE = 0.02
"""How much one answer counts in what is usual."""


@dataclass(frozen=True, slots=True)
class Need:
    model: str
    prompt_bytes: int
    regions: tuple[str, ...] | None = None
    """Where it may be computed; None: anywhere."""
    local: bool = False
    """May an upstream of tier `local` stand in?"""


@dataclass(slots=True)
class Usual:
    """What is reckoned with where a request or an upstream does not tell."""

    answer_tokens: float = 200.0
    tokens_per_s: float = 50.0
    penalty_s: float = 5.0
    """What a failure costs, in seconds of waiting."""

    def answered(self, tokens: int) -> None:
        self.answer_tokens += ANSWER_SHARE * (tokens - self.answer_tokens)

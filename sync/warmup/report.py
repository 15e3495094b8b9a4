"""What became of the lines: a document for programs, and the same for people.

No prompt is in it and no answer: a line is known by its number and the name that it gave itself.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sync.warmup.job import Job
from sync.warmup.source import Survey

FORMAT = 1
FAILED_SHOWN_MAX = 1000
TOLD_MAX = 10
"""Lines that are named for people; all of them are in the document."""

EXIT_DONE, EXIT_INCOMPLETE, EXIT_USAGE, EXIT_STOPPED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130
"""Nothing is left to do; some lines came to nothing; what was asked for cannot be done; the job
stopped by itself before its end; or was interrupted."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would come to."""

    calls: int
    prompt_tokens: int
    answer_tokens: int
    usd: float | None
    seconds: float | None
    """At least, at the rate that was asked for."""
    affordable: bool

    def text(self) -> str:
        cost = "" if self.usd is None else f", about ${self.usd:.4f}"
        time = "" if self.seconds is None else f", {self.seconds:.0f} s at least"
        over = "" if self.affordable else "; that is more than the budget"
        return (
            f"would ask {counted(self.calls, 'time')}: about"
            f" {counted(self.prompt_tokens, 'token')} of prompts and"
            f" {self.answer_tokens} of answers{cost}{time}{over}"
        )


@dataclass(frozen=True, slots=True)
class Report:
    job: str
    survey: Survey
    outcomes: Mapping[str, int]
    refused: Mapping[str, int]
    failed: tuple[Mapping[str, Any], ...]
    failed_count: int
    errors: Mapping[str, int]
    asked: int
    resumed: int
    prompt_tokens: int
    answer_tokens: int
    usd: float | None
    seconds: float
    stopped: str
    estimate: "Estimate | None" = None
    """Of a dry run."""

    @property
    def left(self) -> int:
        return self.survey.lines - sum(self.outcomes.values()) - self.failed_count

    @property
    def exit_code(self) -> int:
        if self.stopped:
            return EXIT_INTERRUPTED if self.stopped == "interrupted" else EXIT_STOPPED
        return EXIT_INCOMPLETE if self.failed_count or self.survey.bad else EXIT_DONE

    def document(self) -> dict[str, Any]:
        return {
            "report": FORMAT,
            "job": self.job,
            "file": {
                "digest": self.survey.digest,
                "lines": self.survey.lines,
                "with_answer": self.survey.given,
                "repeated": self.survey.repeated,
                "bad": self.survey.bad,
            },
            "stored": self.outcomes.get("stored", 0),
            "present": self.outcomes.get("present", 0),
            "refused": dict(self.refused),
            "failed": self.failed_count,
            "left": self.left,
            "asked": self.asked,
            "resumed": self.resumed,
            "tokens": {"prompt": self.prompt_tokens, "answer": self.answer_tokens},
            "usd": self.usd,
            "seconds": round(self.seconds, 3),
            "stopped": self.stopped or None,
            "exit_code": self.exit_code,
            "would": asdict(self.estimate) if self.estimate else None,
            "errors": dict(self.errors),
            "failures": list(self.failed),
            "bad_lines": [
                {"line": flaw.number, "reason": flaw.reason} for flaw in self.survey.flaws
            ],
        }

    def text(self) -> str:
        stored, present = self.outcomes.get("stored", 0), self.outcomes.get("present", 0)
        again = f"; {self.resumed} were done by earlier runs" if self.resumed else ""
        lines = [
            f"{counted(self.survey.lines, 'line')}: {stored} stored, {present} there already,"
            f" {sum(self.refused.values())} not cacheable, {self.failed_count} failed,"
            f" {self.left} left{again}"
        ]
        lines += [f"  not cacheable: {count} for {why}" for why, count in self.refused.items()]
        lines += _some(f"  line {one['line']}: {one['reason']}" for one in self.failed)
        if self.survey.bad:
            lines.append(f"{counted(self.survey.bad, 'line')} cannot be used")
            lines += _some(f"  line {one.number}: {one.reason}" for one in self.survey.flaws)
        if self.survey.repeated:
            repeated = counted(self.survey.repeated, "line")
            lines.append(f"{repeated} said again what an earlier one had")
        if self.estimate:
            return "\n".join([*lines, self.estimate.text()])
        lines.append(
            f"the upstream was asked {counted(self.asked, 'time')}:"
            f" {counted(self.prompt_tokens, 'token')} of prompts,"
            f" {self.answer_tokens} of answers{self._cost()}; {self.seconds:.1f} s"
        )
        if self.stopped:
            lines.append(f"stopped: {STOPPED.get(self.stopped, self.stopped)}")
        return "\n".join(lines)

    def _cost(self) -> str:
        return "" if self.usd is None else f", ${self.usd:.4f}"


STOPPED = {
    "budget": "the budget is spent; the same command with a larger one goes on from here",
    "failing": "one line after the other failed; the same command goes on from here",
    "interrupted": "the same command goes on from here",
}


def report(name: str, job: Job, survey: Survey, seconds: float) -> Report:
    """What there is to say of a job that is over."""
    tally, budget = job.tally, job.budget
    failed = sorted(tally.failed, key=lambda done: done.number)
    return Report(
        job=name,
        survey=survey,
        outcomes=dict(tally.outcomes),
        refused=dict(tally.refused),
        failed=tuple(
            {"line": one.number, "name": one.name, "reason": one.reason}
            for one in failed[:FAILED_SHOWN_MAX]
        ),
        failed_count=len(failed),
        errors=dict(tally.errors),
        asked=tally.asked,
        resumed=tally.resumed,
        prompt_tokens=budget.spent.prompt,
        answer_tokens=budget.spent.answer,
        usd=budget.spent_usd if budget.prices.known else None,
        seconds=seconds,
        stopped=job.stopped_because,
        estimate=_estimate(job) if job.dry_run else None,
    )


def _estimate(job: Job) -> Estimate:
    calls, cost, budget = job.tally.outcomes["would-ask"], job.tally.would_cost, job.budget
    return Estimate(
        calls=calls,
        prompt_tokens=cost.prompt,
        answer_tokens=cost.answer,
        usd=budget.prices.usd(cost) if budget.prices.known else None,
        seconds=job.rate.time_s(calls),
        affordable=budget.affords(cost),
    )


def counted(number: int, noun: str) -> str:
    """`1 line`, `2 lines`."""
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def _some(lines: Any) -> list[str]:
    every = list(lines)
    more = len(every) - TOLD_MAX
    return every[:TOLD_MAX] + ([f"  and {more} more: see the report"] if more > 0 else [])


def errors_told(errors: Counter[str]) -> str:
    """Errors by kind, in a few words."""
    return ", ".join(f"{count}x {kind}" for kind, count in errors.most_common(3))

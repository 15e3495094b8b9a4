"""What is printed: tables, and figures with their goals."""

from collections.abc import Sequence
from pathlib import Path


class Report:
    """Prints line by line, so that a long run shows how far it is, and can be kept in a file."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def say(self, line: str = "") -> None:
        print(line, flush=True)
        self._lines.append(line)

    def title(self, text: str) -> None:
        self.say()
        self.say(f"== {text}")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
        for row in [head, *rows]:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            self.say("  ".join(cells).rstrip())

    def goal(self, what: str, value: float, limit: float, unit: str) -> None:
        """A figure that must not be above `limit`."""
        met = "ok" if value <= limit else "MISSED"
        self.say(f"{what}: {value:.2f}{unit} (goal: at most {limit:g}{unit}) {met}")

    def skipped(self, what: str, hint: str) -> None:
        self.say(f"{what}: skipped; to have it: {hint}")

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(self._lines) + "\n")

"""What keeps the log readable, and free of what users wrote."""

import os


class Repeats:
    """Keeps one kind of event from filling the log: a line a second, which says how many."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[float, int]] = {}

    def count(self, kind: str, now: float) -> int:
        """How many a line written now stands for; 0 when none is due. Kinds are a closed list."""
        last, silent = self._kinds.get(kind, (float("-inf"), 0))
        if now - last < 1.0:
            self._kinds[kind] = (last, silent + 1)
            return 0
        self._kinds[kind] = (now, 0)
        return silent + 1


def where(exc: BaseException) -> str:
    """File and line an exception came from. Its message may quote a prompt and stays out."""
    trace = exc.__traceback__
    if trace is None:
        return "?"
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"

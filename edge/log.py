"""One line an event: `<UTC time>Z <LEVEL> <area> event=<name> key=value ...`.

A value that came from outside cannot forge a line or a field: line ends, quotes and what is not
printable are escaped (security cases 12 and 24). Prompts, answers and keys are never logged.
"""

import logging
import time


class LineFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = (
            f"{when}.{int(record.msecs):03d}Z {record.levelname} {record.name} "
            f"{record.getMessage()}"
        )
        if record.exc_info:
            line += f' trace="{self.formatException(record.exc_info)}"'
        return escape(line)


def escape(text: str) -> str:
    """`text` on one line, in characters that any terminal and any log reader takes."""
    if text.isascii() and text.isprintable():
        return text
    plain = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return (
        "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in plain)
        .encode("utf-8", "backslashreplace")
        .decode()
    )


def set_up(level: str) -> None:
    """Log to standard error. Raises ValueError for a level that does not exist."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("asyncio", "quic", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))

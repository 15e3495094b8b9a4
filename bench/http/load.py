"""Closed-loop load on one server: every connection asks again as soon as it has its answer.

Both generators say on stderr when their first second, in which connections are made, is over and
how many requests there were until then ("W n"). CPU and requests count from there.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.http.servers import MissingError, Server, Wire, tool
from bench.http.work import ANSWER_BYTES, HEADERS, PATH, Scratch

WARM_S = 1.0
WRK_HINT = "apt-get install wrk"
H3LOAD_HINT = "apt-get install gcc libngtcp2-dev libngtcp2-crypto-gnutls-dev libnghttp3-dev"
H3LOAD_SOURCE = Path(__file__).with_name("h3load.c")
H3LOAD_LIBRARIES = ("-lngtcp2", "-lngtcp2_crypto_gnutls", "-lnghttp3", "-lgnutls")


@dataclass(frozen=True, slots=True)
class Shape:
    connections: int
    streams: int = 1

    def __str__(self) -> str:
        return f"{self.connections}x{self.streams}"


@dataclass(frozen=True, slots=True)
class Measured:
    us: float
    """Server CPU a request, over its whole process tree."""
    p50_us: float
    p99_us: float
    per_s: float
    failed: int


class LoadError(Exception):
    """The load generator could not do its work; the message says why."""


def prepare(scratch: Scratch, wire: Wire) -> None:
    """Make what the generator for `wire` needs. Raises MissingError."""
    if wire == "h3":
        _compile(scratch.tools / "h3load")
    else:
        tool("wrk", WRK_HINT)
        (scratch.tools / "post.lua").write_text(_LUA)


def run(
    scratch: Scratch,
    server: Server,
    wire: Wire,
    shape: Shape,
    seconds: float,
    *,
    distinct: bool = False,
) -> Measured:
    """`distinct`: `work.PROMPTS` prompts in turn instead of one."""
    generator = _h3load if wire == "h3" else _wrk
    command = generator(scratch, server, wire, shape, seconds, distinct)
    return _measured(server, command, seconds)


def _measured(server: Server, command: Sequence[str], seconds: float) -> Measured:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as generator:
        assert generator.stderr is not None
        said: list[str] = []
        cpu = before = 0.0
        for line in generator.stderr:
            if line.startswith("W "):
                cpu, before = server.cpu_s(), float(line.split()[1])
            elif line.startswith("X "):
                cpu = server.cpu_s() - cpu
            else:
                said.append(line.strip())
        out = generator.communicate()[0]
    if not out.strip():
        raise LoadError(" / ".join(said[:3]) or "the load generator said nothing")
    found = json.loads(out.splitlines()[-1])
    requests = found["done"] - before
    if requests < 1:
        raise LoadError(f"no answers after the first second ({' / '.join(said[:2])})")
    return Measured(
        us=cpu / requests * 1e6,
        p50_us=found["p50_us"],
        p99_us=found["p99_us"],
        per_s=requests / seconds,
        failed=found["failed"],
    )


def _h3load(
    scratch: Scratch, server: Server, _wire: Wire, shape: Shape, seconds: float, distinct: bool
) -> list[str]:
    bodies = ["-L", "-d", str(scratch.requests)] if distinct else ["-d", str(scratch.request)]
    return [
        *(str(scratch.tools / "h3load"), "-p", str(server.ports["h3"]), "-u", PATH),
        *("-c", str(shape.connections), "-m", str(shape.streams)),
        *("-D", str(WARM_S + seconds), "-w", str(WARM_S)),
        *(*bodies, "-B", str(ANSWER_BYTES)),
    ]


def _wrk(
    scratch: Scratch, server: Server, wire: Wire, shape: Shape, seconds: float, distinct: bool
) -> list[str]:
    scheme = "http" if wire == "h1" else "https"
    return [
        *(tool("wrk", WRK_HINT), "-t", "1", "-c", str(shape.connections * shape.streams)),
        *("-d", f"{round(WARM_S + seconds)}s", "-s", str(scratch.tools / "post.lua")),
        f"{scheme}://127.0.0.1:{server.ports[wire]}{PATH}",
        *("--", str(scratch.requests if distinct else scratch.request)),
    ]


def _compile(to: Path) -> None:
    if to.exists():
        return
    if shutil.which("cc") is None:
        raise MissingError(H3LOAD_HINT)
    command = ["cc", "-O2", "-o", str(to), str(H3LOAD_SOURCE), *H3LOAD_LIBRARIES]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise MissingError(H3LOAD_HINT)


_FIELDS = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in HEADERS.items())

# A script for wrk: the requests (a file with one a line), the end of the warm-up, the result as
# JSON. `summary` counts answers; what had been asked by the end of the warm-up is at most one
# request a connection more than what had been answered.
_LUA = f"""
local ffi = require("ffi")
ffi.cdef[[
typedef struct {{ long s; long ns; }} bench_time;
int clock_gettime(int clock, bench_time *time);
]]
local time = ffi.new("bench_time")
local function now()
  ffi.C.clock_gettime(1, time)
  return tonumber(time.s) + tonumber(time.ns) / 1e9
end

wrk.method = "POST"
{_FIELDS}

local messages, asked, warm_at = {{}}, 0, nil
function init(arguments)
  for body in io.lines(arguments[1]) do
    messages[#messages + 1] = wrk.format(nil, nil, nil, body)
  end
end
function request()
  if not warm_at then
    warm_at = now() + {WARM_S}
  elseif warm_at > 0 and now() >= warm_at then
    warm_at = -1
    io.stderr:write("W " .. asked .. "\\n")
  end
  asked = asked + 1
  return messages[asked % #messages + 1]
end
function done(summary, latency)
  io.stderr:write("X " .. summary.requests .. "\\n")
  local errors = summary.errors
  local failed = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  print(string.format('{{"done":%d,"failed":%d,"p50_us":%.1f,"p99_us":%.1f}}',
    summary.requests, failed, latency:percentile(50), latency:percentile(99)))
end
"""

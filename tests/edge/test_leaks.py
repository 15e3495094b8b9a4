"""Security finding A11: what people ask and are told is nowhere but in the answers."""

import json
import logging
from pathlib import Path

import aiohttp
import pytest

from tests.fakes.doors import CHAT, JSON, ask, chat, doors
from tests.fakes.node import running_node, url
from tests.fakes.upstream import Exchange, ScriptedUpstream, completion

PROMPT, ANSWER, KEY, HEADER = "canary-prompt", "canary-answer", "canary-key", "canary-header"
CANARIES = (PROMPT, ANSWER, KEY, HEADER)


async def test_no_canary_in_logs_metrics_status_or_errors(
    upstream: ScriptedUpstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(exchange: Exchange) -> object:
        if "fail" in exchange.text:
            return await exchange.json({"error": {"message": "no"}}, 500)
        if "garbage" in exchange.text:
            return await exchange.json([ANSWER])
        return await exchange.json(completion(ANSWER))

    upstream.script = script  # type: ignore[assignment]
    caplog.set_level(logging.DEBUG)
    keys = [{"tenant": "a", "key_env": "A_KEY"}]
    seen: list[str] = []
    async with (
        running_node(tmp_path, upstream.base_url, environ={"A_KEY": KEY}, keys=keys) as node,
        doors(node) as every,
        aiohttp.ClientSession(url(node, "admin")) as admin,
    ):
        for door in every:
            fields = {"authorization": f"Bearer {KEY}", "x_request_id": HEADER}
            assert ANSWER in (await ask(door, PROMPT, **fields)).text
            failed = await ask(door, f"{PROMPT} fail", **fields)
            garbage = await ask(door, f"{PROMPT} garbage", **fields)
            refused = await ask(door, PROMPT, authorization=f"Bearer x{KEY}")
            seen += [answer.body.decode() for answer in (failed, garbage, refused)]
            broken = json.dumps(chat(PROMPT)).encode()[:-1]
            fields = {**JSON, "authorization": f"Bearer {KEY}"}
            seen.append((await door.request("POST", CHAT, fields, broken)).body.decode())
        for path in ("/metrics", "/admin/status", "/readyz"):
            async with admin.get(path) as response:
                seen.append(await response.text())
        async with admin.post("/admin/purge", json={"request": chat(PROMPT)}) as response:
            seen.append(await response.text())
    seen += [record.getMessage() + str(record.exc_text) for record in caplog.records]
    assert caplog.records
    for canary in CANARIES:
        assert not [text for text in seen if canary in text]

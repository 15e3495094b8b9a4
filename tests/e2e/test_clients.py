"""Clients that bring an HTTP/3 stack of their own, against the whole product."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import curl_cffi
import niquests
import pycurl
import pytest

from tests.e2e.conftest import NodeProcess

PROMPT = {
    "model": "smollm2-135m-instruct",
    "messages": [{"role": "user", "content": "Say: one two three."}],
    "max_tokens": 64,
}
CURL_HTTP_VERSION_3, CURL_HTTP_VERSION_3ONLY = 30, 31


def chat_url(node: NodeProcess) -> str:
    return f"https://localhost:{node.listen.rpartition(':')[2]}/v1/chat/completions"


def certificate(node: NodeProcess) -> str:
    return str(node.data / "var" / "self-signed.pem")


def test_curl_over_http3_with_the_nodes_own_certificate(local_node: NodeProcess) -> None:
    out, head = BytesIO(), BytesIO()
    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, chat_url(local_node))
    curl.setopt(pycurl.HTTP_VERSION, CURL_HTTP_VERSION_3ONLY)
    curl.setopt(pycurl.CAINFO, certificate(local_node))
    curl.setopt(pycurl.IPRESOLVE, pycurl.IPRESOLVE_V4)
    curl.setopt(pycurl.HTTPHEADER, ["content-type: application/json"])
    curl.setopt(pycurl.POSTFIELDS, json.dumps({**PROMPT, "stream": True}))
    curl.setopt(pycurl.WRITEDATA, out)
    curl.setopt(pycurl.HEADERFUNCTION, head.write)
    curl.perform()
    assert curl.getinfo(pycurl.INFO_HTTP_VERSION) == CURL_HTTP_VERSION_3
    curl.close()
    assert head.getvalue().startswith(b"HTTP/3 200")
    assert out.getvalue().endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("version", ["v1", "v3only"])
def test_chromes_handshake(local_node: NodeProcess, version: Any) -> None:
    response: Any = curl_cffi.post(
        chat_url(local_node),
        json=PROMPT,
        verify=False,
        impersonate="chrome",
        http_version=version,
    )
    assert response.status_code == 200
    assert response.json()["object"] == "chat.completion"
    if version == "v1":
        port = local_node.listen.rpartition(":")[2]
        assert response.headers["alt-svc"] == f'h3=":{port}"; ma=900'


def test_niquests_over_http3(local_node: NodeProcess) -> None:
    with niquests.Session(disable_http1=True, disable_http2=True) as session:
        response = session.post(chat_url(local_node), json=PROMPT, verify=certificate(local_node))
    assert (response.status_code, response.http_version) == (200, 30)


def test_the_demonstration_model_is_announced_as_one(local_node: NodeProcess) -> None:
    assert "event=demonstration_model" in Path(local_node.log).read_text()

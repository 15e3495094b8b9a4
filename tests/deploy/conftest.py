import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.deploy.street import ROOT, Namespace, street
from tests.fleet.wan import unavailable


def needs(*tools: str) -> None:
    """Skip where one is missing."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool} (Debian: fail2ban, nftables, iproute2)")


@pytest.fixture
def places() -> Iterator[tuple[Namespace, Namespace]]:
    """A node's network, and that of strangers, joined."""
    if why := unavailable():
        pytest.skip(why)
    with street() as made:
        yield made


@pytest.fixture
def walled(places: tuple[Namespace, Namespace]) -> tuple[Namespace, Namespace]:
    """The same with `promptedge.nft` loaded at the node."""
    needs("nft")
    node, world = places
    tried = subprocess.run(
        ["ip", "netns", "exec", node.name, "nft", "list", "ruleset"],
        capture_output=True,
        check=False,
    )
    if tried.returncode != 0:
        pytest.skip(f"needs nf_tables in the kernel: {tried.stderr.decode().strip()}")
    for _ in range(2):  # as often as you like
        node.run("nft", "-f", str(ROOT / "deploy/promptedge.nft"))
    return node, world

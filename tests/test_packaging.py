"""What is installed, and how: the lists agree with each other and with the code."""

import re
import tomllib
from pathlib import Path

import pytest

from edge import config
from edge.local_model import PACKAGES

ROOT = Path(__file__).parent.parent
LOCKS = ("runtime.txt", "dev.txt", "build.txt", "models.txt")


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


def test_every_dependency_is_locked_and_the_tests_run_what_users_run() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = [re.split(r"[<>=~!\[ ]", line)[0] for line in project["project"]["dependencies"]]
    runtime, dev, build = locked("runtime.txt"), locked("dev.txt"), locked("build.txt")
    assert set(asked) <= set(runtime)
    assert runtime.items() <= dev.items()
    assert all(dev.get(name, version) == version for name, version in build.items())


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes_and_no_list_names_an_index(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    text = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE)
    for requirement in re.split(r"\n(?=\S)", text.strip()):
        assert re.fullmatch(r"[\w.-]+==\S+( \\\n    --hash=sha256:[0-9a-f]{64})+", requirement)


def test_the_node_gives_nobody_torch() -> None:
    forbidden = {"torch", "transformers", "sentence-transformers", "llama-cpp-python", "llm"}
    assert not forbidden & {package for name in LOCKS for package in locked(name)}


def test_the_packages_of_the_demonstration_model_are_the_locked_ones() -> None:
    models = locked("models.txt")
    for requirement in PACKAGES.values():
        name, version = requirement.split("==")
        assert models[name] == version


def test_the_example_configuration_is_good() -> None:
    example = config.load(ROOT / "deploy" / "promptedge.toml", {})
    assert [upstream.name for upstream in example.upstreams] == ["near", "far"]


def test_the_commented_settings_of_the_example_are_good_too(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "promptedge.toml").read_text()
    everything = tmp_path / "all.toml"
    everything.write_text(re.sub(r"^#(?=\S)", "", text, flags=re.MULTILINE))
    example = config.load(everything, {})
    assert example.keys[0].tenant == "acme"
    assert example.tls.certificate is not None

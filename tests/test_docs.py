"""What the documentation says exists, and what exists is said."""

import re
import subprocess
import sys
from pathlib import Path

from edge.metrics import OUTCOMES, Metrics

ROOT = Path(__file__).parent.parent


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def test_the_settings_are_documented_as_they_are() -> None:
    """`scripts/configuration-docs` writes the page again."""
    check = [sys.executable, str(ROOT / "scripts" / "configuration-docs"), "--check"]
    assert subprocess.run(check, check=False).returncode == 0


def test_each_outcome_and_metric_is_documented() -> None:
    page = read("docs/operations.md")
    for outcome in OUTCOMES:
        assert f"`{outcome}`" in page
    rendered = Metrics().render().decode()
    for name in set(re.findall(r"^# TYPE (promptedge_\w+) ", rendered, re.MULTILINE)):
        assert name in page or name.removesuffix("_total") in page


def test_the_readme_names_commands_and_flags_that_exist() -> None:
    readme = read("README.md")
    for command in re.findall(r"^promptedge (\w+)", readme, re.MULTILINE):
        help_of(command)
    flags = set(re.findall(r"`(--[a-z]+) ", readme))
    assert flags
    known = help_of("serve")
    assert all(flag in known for flag in flags)


def test_each_option_of_a_warm_up_is_documented() -> None:
    page = read("docs/warm-up.md")
    options = set(re.findall(r"(--[a-z-]+)", help_of("warm"))) - {"--help", "--pin"}
    for option in options:
        assert option in page, option
    for command in ("warm", "export", "import"):
        assert f"promptedge {command} " in page


def test_links_between_documents_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/**/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def help_of(command: str) -> str:
    run = [sys.executable, "-m", "edge", command, "--help"]
    return subprocess.run(run, check=True, capture_output=True, text=True, cwd=ROOT).stdout

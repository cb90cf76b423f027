"""What lies in deploy/ names what is there: commands, options, files; each is read by its linter where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rewarm.cli.main import app

DEPLOY = Path(__file__).parents[1] / "deploy"


def check_command(words: list[str]) -> None:
    """Whether ``rewarm`` knows the command and each option of it."""
    shown = CliRunner().invoke(app, [words[0], "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for option in (word for word in words[1:] if word.startswith("--")):
        assert option in re.sub(r"\x1b\[[0-9;]*m", "", shown.output), option


def test_compose_starts_what_there_is() -> None:
    studio = (found := yaml.safe_load((DEPLOY / "compose.yaml").read_text()))["services"]["studio"]
    check_command(studio["command"])
    assert (DEPLOY / studio["build"]["context"] / studio["build"]["dockerfile"]).is_file()
    assert studio["ports"] == ["127.0.0.1:8765:8765"]  # nobody else reaches it without the proxy
    mounted = {volume.partition(":")[0] for service in found["services"].values() for volume in service["volumes"]}
    assert mounted == found["volumes"].keys()


def test_the_image_is_made_of_what_there_is() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (.+) \S+$", text, re.M):
        assert all((DEPLOY.parent / name).exists() for name in line.split())
    extras = re.search(r"'\.\[(.+)\]'", text)
    assert extras is not None
    assert all(f"\n{extra} = [" in (DEPLOY.parent / "pyproject.toml").read_text() for extra in extras[1].split(","))
    assert "\nUSER 10001\n" in text and "HEALTHCHECK" in text
    command = re.search(r"^CMD \[(\"studio\".+)\]$", text, re.M)
    assert command is not None
    check_command(yaml.safe_load(f"[{command[1]}]"))


def test_the_unit_starts_a_command_that_there_is() -> None:
    command = re.search(r"^ExecStart=/opt/rewarm/bin/rewarm (.+)$", (DEPLOY / "rewarm.service").read_text(), re.M)
    assert command is not None
    check_command(command[1].split())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd alone can judge a unit")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    text = (DEPLOY / "rewarm.service").read_text()
    unit = tmp_path / "rewarm.service"
    unit.write_text(text.replace("/opt/rewarm/bin/rewarm", shutil.which("true") or ""))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert done.returncode == 0 and "rewarm.service" not in done.stderr, done.stderr

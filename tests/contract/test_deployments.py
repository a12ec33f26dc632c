"""What an operator copies onto a site, judged by the tools of its trade; a test is skipped where its tool is not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from toolkit.cli.main import build_app

DEPLOYMENTS = Path(__file__).resolve().parents[2] / "deployments"
CHART = DEPLOYMENTS / "helm" / "toolkit"
UNIT = DEPLOYMENTS / "systemd" / "toolkit-serve.service"
MOST_EXPOSED = 1.3  # 0 is shut in wholly, 10 is unguarded; systemd calls up to 2 good
SCRIPTS = sorted([*DEPLOYMENTS.rglob("*.sh"), DEPLOYMENTS / "systemd" / "toolkit-admin"])


def found(tool: str) -> str | None:
    """Where a tool is: of the machine, or beside this Python, where the extra `lint` puts some."""
    return shutil.which(tool, path=os.pathsep.join([os.environ["PATH"], sysconfig.get_path("scripts")]))


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not found(tool), reason=f"{tool} is not installed")


def run(tool: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [found(tool) or tool, *map(str, words)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@needs("systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    # It looks whether the program is there, which it is on a site only.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/toolkit/bin/toolkit", "/bin/true"))
    verified = run("systemd-analyze", "verify", unit)
    if "sysinit.target not found" in verified.stdout:
        pytest.skip("this machine has no units of systemd's own")
    assert (verified.returncode, verified.stdout) == (0, "")


@needs("systemd-analyze")
def test_the_unit_is_shut_in() -> None:
    rated = run("systemd-analyze", "security", "--offline=yes", "--no-pager", UNIT).stdout
    exposed = re.search(r"Overall exposure level for toolkit-serve.service: ([\d.]+)", rated)
    assert exposed, rated
    assert float(exposed[1]) <= MOST_EXPOSED, rated


@needs("shellcheck")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound_shell(script: Path) -> None:
    checked = run("shellcheck", "--severity=warning", script)
    assert checked.returncode == 0, checked.stdout


@needs("hadolint")
def test_the_image_is_described_as_hadolint_would_have_it() -> None:
    checked = run("hadolint", DEPLOYMENTS / "container" / "Containerfile")
    assert checked.returncode == 0, checked.stdout


def test_compose_shuts_the_server_in() -> None:
    server = yaml.safe_load((DEPLOYMENTS / "container" / "compose.yaml").read_text())["services"]["serve"]
    assert (server["read_only"], server["cap_drop"], server["user"]) == (True, ["ALL"], "10001:10001")
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])


@needs("helm")
def test_helm_accepts_the_chart() -> None:
    checked = run("helm", "lint", "--strict", CHART)
    assert checked.returncode == 0, checked.stdout


def test_the_charts_values_fit_their_schema() -> None:
    jsonschema.validate(values(), json.loads((CHART / "values.schema.json").read_text()))


def test_what_the_chart_makes_are_manifests_of_kubernetes() -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    made = rendered()
    assert [one["kind"] for one in made] == ["Deployment", "Service", "NetworkPolicy", "PersistentVolumeClaim"]
    for manifest in made:
        schemas.validate(manifest, "1.30", strict=True)


def test_a_pod_is_not_root_and_may_not_write_its_root() -> None:
    pod = rendered()[0]["spec"]["template"]["spec"]
    runtime = next(yaml.safe_load_all((DEPLOYMENTS / "kserve" / "servingruntime.yaml").read_text()))["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    for container in (pod["containers"][0], runtime["containers"][0]):
        shut = container["securityContext"]
        assert (shut["readOnlyRootFilesystem"], shut["allowPrivilegeEscalation"]) == (True, False)
        assert shut["capabilities"] == {"drop": ["ALL"]}
        known = known_options("serve")
        assert {word.split("=")[0] for word in container["args"][1:]} <= known


def values() -> dict[str, Any]:
    given: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return given


def rendered() -> list[dict[str, Any]]:
    """The chart as helm would render it. It keeps to one form, `{{ .Values.a.b }}`, with `| toJson` or without, so that
    this stands in for helm where there is none."""
    known = {"Values": values(), "Release": {"Name": "line"}}

    def replaced(hole: re.Match[str]) -> str:
        value: Any = known
        for name in hole[1].split("."):
            value = value[name]
        return json.dumps(value) if hole[2] else str(value)

    text = (CHART / "templates" / "serve.yaml").read_text()
    text = re.sub(r"\{\{ \.([\w.]+)( \| toJson)? \}\}", replaced, text)
    assert "{{" not in text
    return list(yaml.safe_load_all(text))


def known_options(verb: str) -> set[str]:
    command = typer.main.get_command(build_app())
    return {option for parameter in command.commands[verb].params for option in parameter.opts}

"""What an operator copies onto a site, judged by the tools of its trade; a test is skipped where its tool is not."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from seal_parts import HEADER, LICENCE, make_home
from serving_parts import bundle_files

from toolkit.artifacts import BundleFile
from toolkit.cli.main import build_app
from toolkit.seal.bundle import seal_bundle
from toolkit.seal.grant import grant
from toolkit.seal.manifest import DomainRef
from toolkit.seal.recipient import load_recipient
from toolkit.serving.access import list_keys

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
    verify(tmp_path)


@needs("systemd-analyze")
def test_the_drop_in_of_the_readme_changes_what_it_says(tmp_path: Path) -> None:
    dropped_in = re.search(r"```ini\n(.*?)```", (DEPLOYMENTS / "README.md").read_text(), re.DOTALL)
    assert dropped_in
    assert {*re.findall(r"--[a-z-]+", dropped_in[1])} <= known_options("serve")
    folder = tmp_path / f"{UNIT.name}.d"
    folder.mkdir()
    (folder / "override.conf").write_text(dropped_in[1])
    verify(tmp_path)
    assert "$OPTIONS" in setting("ExecStart")
    assert setting("Environment").startswith('"OPTIONS=')  # which the one of the drop-in, read later, replaces
    (folder / "override.conf").write_text("[Service]\nRestart=perhaps\n")
    with pytest.raises(AssertionError, match="perhaps"):  # so the drop-in is read
        verify(tmp_path)


def test_the_service_outlives_a_worker_and_comes_back_however_it_ended() -> None:
    assert (setting("Restart"), setting("OOMPolicy")) == ("always", "continue")


def verify(folder: Path) -> None:
    # It looks whether the program is there, which it is on a site only.
    unit = folder / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/toolkit/bin/toolkit", "/bin/true"))
    verified = run("systemd-analyze", "verify", unit)
    if "sysinit.target not found" in verified.stdout:
        pytest.skip("this machine has no units of systemd's own")
    assert (verified.returncode, verified.stdout) == (0, "")


def setting(name: str) -> str:
    """The first value that the unit gives to a setting."""
    found = re.search(rf"^{name}=(.*)", UNIT.read_text(), re.MULTILINE)
    return found[1] if found else ""


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
    assert server["restart"] == "unless-stopped"  # on-failure would leave it down after a reboot


@needs("helm")
def test_helm_accepts_the_chart() -> None:
    checked = run("helm", "lint", "--strict", CHART)
    assert checked.returncode == 0, checked.stdout


def test_the_charts_values_fit_their_schema() -> None:
    values()
    with pytest.raises(jsonschema.ValidationError):
        values(grpcPort=70000)


def test_what_the_chart_makes_are_manifests_of_kubernetes() -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    made = manifests()
    assert [one["kind"] for one in made] == ["Deployment", "Service", "NetworkPolicy", "PersistentVolumeClaim"]
    others = manifests(setup=True), manifests(existingClaim="hall"), manifests(grpcPort=9000)
    for manifest in [*made, *(one for other in others for one in other)]:
        schemas.validate(manifest, "1.30", strict=True)


def test_a_pod_is_not_root_and_may_not_write_its_root() -> None:
    pod = pod_of(manifests(grpcPort=9000))
    runtime, service = yaml.safe_load_all((DEPLOYMENTS / "kserve" / "servingruntime.yaml").read_text())
    assert pod["securityContext"]["runAsNonRoot"]
    # Volume and passphrase are such a user's by this group alone; given to it at each start, keys would be open to it.
    for context in (pod["securityContext"], service["spec"]["predictor"]["securityContext"]):
        assert (context["fsGroup"], context["fsGroupChangePolicy"]) == (10001, "OnRootMismatch")
    for container in (pod["containers"][0], runtime["spec"]["containers"][0]):
        shut = container["securityContext"]
        assert (shut["readOnlyRootFilesystem"], shut["allowPrivilegeEscalation"]) == (True, False)
        assert shut["capabilities"] == {"drop": ["ALL"]}
        known = known_options("serve")
        assert {word.split("=")[0] for word in container["args"][1:]} <= known


def test_a_claim_that_there_is_is_taken_and_none_is_made() -> None:
    made = manifests(existingClaim="hall")
    assert [one["kind"] for one in made] == ["Deployment", "Service", "NetworkPolicy"]
    assert pod_of(made)["volumes"][0]["persistentVolumeClaim"] == {"claimName": "hall"}
    assert pod_of(manifests())["volumes"][0]["persistentVolumeClaim"] == {"claimName": "line-site"}


def test_grpc_goes_from_the_service_to_the_server() -> None:
    deployment, service, policy, _ = manifests(grpcPort=9001)
    server = pod_of([deployment])["containers"][0]
    assert "--grpc-port=9000" in server["args"]
    assert {"name": "grpc", "containerPort": 9000} in server["ports"]
    assert {"name": "grpc", "port": 9001, "targetPort": "grpc"} in service["spec"]["ports"]
    assert {"protocol": "TCP", "port": 9000} in policy["spec"]["ingress"][0]["ports"]
    assert "grpc" not in rendered("serve.yaml")


def test_the_notes_make_the_site_in_a_pod_without_a_server(tmp_path: Path) -> None:
    setting_up, serving = pod_of(manifests(setup=True)), pod_of(manifests())
    pod, server = setting_up["containers"][0], serving["containers"][0]
    alike = ("image", "volumeMounts", "securityContext")
    assert [pod[name] for name in alike] == [server[name] for name in alike]
    assert setting_up["volumes"] == serving["volumes"]
    assert not {"args", "startupProbe", "livenessProbe", "readinessProbe"} & set(pod)
    with subprocess.Popen(pod["command"], start_new_session=True) as process:
        time.sleep(0.5)  # its trap stands
        assert process.poll() is None
        process.terminate()
        assert process.wait(5) == 0  # a pod that must go does so at once
        os.killpg(process.pid, signal.SIGKILL)  # its sleep, as a container's end does

    here, volume = tmp_path / "here", tmp_path / "volume"
    here.mkdir()
    volume.mkdir()
    home = make_home(tmp_path / "home")
    shutil.copy(home.path / "keys" / "root.json", here)
    header = dataclasses.replace(HEADER, domain=DomainRef("industry", ">=0.1,<0.2"))
    plan = json.dumps({"domain": "industry", "task": "image_classification"}).encode()
    files = [BundleFile(role, data) for role, data in bundle_files(plan=plan).items()]
    sealed = seal_bundle(home.bundles, header=header, files=[LICENCE, *files], keys=home.keys, escrow=home.escrow)
    before, after = rendered("NOTES.txt", setup=True).split("With what")
    in_the_pod(before, here, volume)
    grant(sealed.path, load_recipient(here / "recipient.json"), home.keys, home.escrow)
    shutil.copytree(sealed.path, here / "BUNDLE")
    in_the_pod(after, here, volume)
    in_the_pod(rendered("NOTES.txt").replace("line-1", "line-2"), here, volume)
    assert [key.name for key in list_keys(volume / "site")] == ["line-1", "line-2"]
    assert not (volume / "BUNDLE").exists()


def in_the_pod(notes: str, here: Path, volume: Path) -> None:
    """Run the commands of the notes: what they run in the pod runs here, with `volume` as its /site."""
    passphrase, tools = here.parent / "passphrase", here.parent / "tools"
    passphrase.write_text("correct horse battery staple\n")
    tools.mkdir(exist_ok=True)
    (tools / "kubectl").write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    (tools / "toolkit").write_text(f'#!/bin/sh\nexec {sys.executable} -m toolkit.cli.main "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    commands = "\n".join(line for line in notes.splitlines() if line.startswith("  "))
    assert "-n space exec" in commands
    commands = re.sub(r"(?<=[ =])/site\b", str(volume), commands.replace("/tmp/", f"{here}/its-"))
    variables = {"PATH": f"{tools}:{os.environ['PATH']}", "TOOLKIT_PASSPHRASE_FILE": str(passphrase)}
    done = subprocess.run(
        ["sh", "-euc", commands], cwd=here, env=os.environ | variables,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n{done.stdout}"


def values(**given: Any) -> dict[str, Any]:
    """The chart's values; those given by name take the place of the ones that are called so."""
    known: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    for name, value in given.items():
        place = next(place for place in (known, known["site"], known["service"]) if name in place)
        place[name] = value
    jsonschema.validate(known, json.loads((CHART / "values.schema.json").read_text()))
    return known


def rendered(template: str, **given: Any) -> str:
    """A template as helm would render it. The chart keeps to few forms, so that this stands in for helm where there is
    none: `{{ .Values.a.b }}`, also with `| toJson`, and `{{- if .Values.a.b }}`, also with `not` and `else`."""
    known = {"Values": values(**given), "Release": {"Name": "line", "Namespace": "space"}}

    def value_of(name: str) -> Any:
        value: Any = known
        for part in name.split("."):
            value = value[part]
        return value

    def replaced(hole: re.Match[str]) -> str:
        return json.dumps(value_of(hole[1])) if hole[2] else str(value_of(hole[1]))

    def chosen(choice: re.Match[str]) -> str:
        return (choice[3] if bool(value_of(choice[2])) != bool(choice[1]) else choice[4]) or ""

    inner = r"((?:(?!\{\{- (?:if|else|end) ).)*?)"
    choice = rf"\s*\{{\{{- if (not )?\.([\w.]+) \}}\}}{inner}(?:\s*\{{\{{- else \}}\}}{inner})?\s*\{{\{{- end \}}\}}"
    text, found = (CHART / "templates" / template).read_text(), 1
    while found:
        text, found = re.subn(choice, chosen, text, flags=re.DOTALL)
    text = re.sub(r"\{\{ \.([\w.]+)( \| toJson)? \}\}", replaced, text)
    assert "{{" not in text
    return text


def manifests(**given: Any) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(rendered("serve.yaml", **given)))


def pod_of(made: list[dict[str, Any]]) -> dict[str, Any]:
    pod: dict[str, Any] = made[0]["spec"]["template"]["spec"]
    return pod


def known_options(verb: str) -> set[str]:
    command = typer.main.get_command(build_app())
    return {option for parameter in command.commands[verb].params for option in parameter.opts}

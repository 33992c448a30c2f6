"""The examples in deploy/ hold together: they parse, name only what exists, and have all that a server needs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from clm_site.server import PATIENCE
from tests.serving.server import ROOT, environment

DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
KUBERNETES = {
    (one["kind"], one["metadata"]["name"]): one
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for one in yaml.safe_load_all(path.read_text())
}
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
#: Seconds that a server takes at most to leave: its engine, then its requests, then a moment.
LEAVING = 2 * PATIENCE + 1


def container(kind: str, name: str) -> dict[str, Any]:
    (one,) = KUBERNETES[kind, name]["spec"]["template"]["spec"]["containers"]
    return dict(one)


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_every_variable_of_ours_is_documented(path):
    named = set(re.findall(r"\b(?:CLM_[A-Z_]+|DATABASE_URL|REDIS_URL)\b", path.read_text()))
    assert {name for name in named if f"`{name}`" not in CONFIGURATION} == set()


def test_every_command_that_is_started_exists():
    started = [service["command"] for service in COMPOSE["services"].values() if service.get("image") == "clm"]
    started += [container(kind, name)["args"] for kind, name in KUBERNETES if kind in {"Deployment", "Job"}]
    started += [
        words.split() for unit in UNITS for words in re.findall(r"^ExecStart=.*manage\.py (.+)", unit.read_text(), re.M)
    ]
    assert len(started) == 4 + 3 + 3
    assert {words[0] for words in started} == {"serve", "worker", "migrate"}
    assert {"serve", "migrate"} <= set(get_commands())


def test_the_same_settings_reach_web_workers_and_the_migrate_step():
    ours = [service for service in COMPOSE["services"].values() if service.get("image") == "clm"]
    assert len(ours) == 4
    assert all(service["environment"] == ours[0]["environment"] and service["env_file"] for service in ours)
    pods = [container(kind, name) for kind, name in KUBERNETES if kind in {"Deployment", "Job"}]
    assert len({str(pod["envFrom"]) for pod in pods}) == 1


def test_whoever_is_stopped_gets_the_time_that_it_takes():
    for service in COMPOSE["services"].values():
        if service.get("image") == "clm":
            assert seconds(service["stop_grace_period"]) > LEAVING
    for unit in UNITS:
        if limit := re.search(r"TimeoutStopSec=(\d+)", unit.read_text()):
            assert int(limit[1]) > LEAVING
    for name in ("clm-web", "clm-worker"):
        pod = KUBERNETES["Deployment", name]["spec"]["template"]["spec"]
        before = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["0"])
        assert pod["terminationGracePeriodSeconds"] > LEAVING + int(before[-1])


def test_probes_name_a_host_that_the_server_answers_to():
    allowed = KUBERNETES["ConfigMap", "clm"]["data"]["CLM_ALLOWED_HOSTS"].split(",")
    web = container("Deployment", "clm-web")
    asked = {}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = web[probe]["httpGet"]
        asked[probe] = get["path"]
        assert {header["value"] for header in get["httpHeaders"]} <= set(allowed)
    assert asked == {"startupProbe": "/healthz", "readinessProbe": "/readyz", "livenessProbe": "/healthz"}


def test_what_selects_pods_finds_them():
    for (kind, _), one in KUBERNETES.items():
        spec = one.get("spec", {})
        if kind in {"Deployment", "PodDisruptionBudget"}:
            wanted = spec["selector"]["matchLabels"]
            assert wanted == KUBERNETES["Deployment", f"clm-{wanted['part']}"]["spec"]["template"]["metadata"]["labels"]
    service = KUBERNETES["Service", "clm-web"]["spec"]
    assert service["selector"] == KUBERNETES["Deployment", "clm-web"]["spec"]["template"]["metadata"]["labels"]
    backend = KUBERNETES["Ingress", "clm"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "clm-web", "port": {"name": service["ports"][0]["name"]}}


def test_a_worker_that_hangs_is_seen_by_the_age_of_its_beat(tmp_path):
    """The probes' own shell lines, against a fresh, an old and a missing file."""
    probes = [
        container("Deployment", "clm-worker")["livenessProbe"]["exec"]["command"][-1],
        COMPOSE["services"]["worker"]["healthcheck"]["test"][-1].replace("$$", "$").replace("/data", str(tmp_path)),
    ]

    def answers() -> list[int]:
        env = {"PATH": "/usr/bin:/bin", "CLM_DATA_DIR": str(tmp_path)}
        return [
            subprocess.run(["sh", "-c", line], env=env, stderr=subprocess.DEVNULL, check=False).returncode
            for line in probes
        ]

    assert answers() == [1, 1]
    (tmp_path / "worker.beat").touch()
    assert answers() == [0, 0]
    subprocess.run(["touch", "-d", "3 minutes ago", str(tmp_path / "worker.beat")], check=True)
    assert answers() == [1, 1]


def test_the_image_has_all_that_a_server_needs(tmp_path):
    """What the Dockerfile copies is enough for the commands to start."""
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1:] for line in lines if line.startswith("COPY ") and "--from" not in line]
    let_in = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    (tmp_path / "image").mkdir()
    for name, target in copied:
        assert name in let_in
        if target == "/":
            continue
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / "image" / target)
        else:
            shutil.copy(ROOT / name, tmp_path / "image" / target)
    done = subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=tmp_path / "image",
        env=environment(tmp_path / "data", 8000),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="Needs systemd-analyze.")
def test_systemd_understands_the_units():
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, UNITS)], capture_output=True, text=True, check=False
    ).stderr.splitlines()
    # CLM is not installed where the units say.
    of_ours = [line for line in said if "deploy/systemd" in line or "clm-" in line]
    assert [line for line in of_ours if "is not executable" not in line] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_no_secret_is_in_an_example(path):
    for name, value in re.findall(r"\b(\w*(?:SECRET_KEY|PASSWORD))[=:] *(\S+)", path.read_text()):
        assert value.startswith(("replace-with", "${", "?")), f"{path.name}: {name}"


def test_the_docs_name_every_example():
    text = (ROOT / "docs" / "deployment.md").read_text()
    for path in DEPLOY.iterdir():
        assert f"deploy/{path.name}" in text, path.name

"""The files that are not run here agree with each other and with the application."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import DEFAULT_TIMEOUT
from waitress.task import ThreadedTaskDispatcher

from pyramid_baseplate_redis.cli.main import main as predis

from .deployment import CODE, ROOT
from .units import setting

yaml = pytest.importorskip("yaml", reason="needs PyYAML (pip install pyyaml)")

UNITS = sorted(path.name for path in CODE.glob("*.service"))
DOCKERFILE = (CODE / "Dockerfile").read_text()
GRACEFUL_TIMEOUT = runpy.run_path(str(CODE / "gunicorn.conf.py"))["graceful_timeout"]


def seconds(text: str) -> int:
    """Return the seconds of ``45s``."""
    return int(text.removesuffix("s"))


def stop_seconds(command: list[str]) -> float:
    """Return how long a worker may take to stop: its grace period, and a collector that hangs."""
    found = re.search(r"--grace[= ](\d+)", " ".join(command))
    assert found is not None
    return int(found[1]) + DEFAULT_TIMEOUT


def loaded(name: str) -> Any:
    return yaml.safe_load((CODE / name).read_text())


def pod(name: str) -> dict[str, Any]:
    """Return the pod of a Deployment whose selector finds it."""
    deployment = loaded(f"kubernetes/{name}.yaml")
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment")
    template = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    spec: dict[str, Any] = template["spec"]
    return spec


def container(name: str) -> dict[str, Any]:
    (only,) = pod(name)["containers"]
    found: dict[str, Any] = only
    return found


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what ``predis`` has against a command, apart from its .ini file, which is missing."""
    program, work, ini, *arguments = command
    assert (Path(program).name, work) == ("predis", "work")
    assert (CODE / ini).is_file()
    with suppress(SystemExit):
        predis([work, "missing.ini", *arguments])
    error = capsys.readouterr().err
    return "" if "missing.ini" in error and "unrecognized" not in error else error


# systemd


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    text = (CODE / name).read_text().replace("/srv/myapp/.venv/bin", str(programs))
    (tmp_path / name).write_text(text.replace("/srv/myapp", str(CODE)))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--generators=no", str(tmp_path / name)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    # Units of the machine itself may have errors; each line names its file.
    assert [line for line in verified.stderr.splitlines() if name in line] == []


def test_systemd_waits_longer_than_the_servers_do() -> None:
    worker = CODE / "myapp-worker.service"
    command = shlex.split(setting(worker, "Service", "ExecStart"))
    assert int(setting(worker, "Service", "TimeoutStopSec")) > stop_seconds(command)
    gunicorn = CODE / "myapp.service"
    assert int(setting(gunicorn, "Service", "TimeoutStopSec")) > GRACEFUL_TIMEOUT


@pytest.mark.parametrize("unit", ["myapp.service", "myapp-worker.service"])
def test_systemd_signals_the_first_process_only(unit: str) -> None:
    assert setting(CODE / unit, "Service", "KillMode") == "mixed"


def test_systemd_stops_waitress_with_the_signal_that_it_handles() -> None:
    unit = CODE / "myapp-waitress.service"
    assert setting(unit, "Service", "KillSignal") == "SIGINT"
    default = inspect.signature(ThreadedTaskDispatcher.shutdown).parameters["timeout"].default
    assert int(setting(unit, "Service", "TimeoutStopSec")) > default + DEFAULT_TIMEOUT


# Kubernetes


def test_kubernetes_knows_each_field() -> None:
    validation = pytest.importorskip(
        "kubernetes_validate", reason="needs kubernetes-validate (pip install kubernetes-validate)"
    )
    version = validation.latest_version()
    web = loaded("kubernetes/web.yaml")
    validation.validate(loaded("kubernetes/worker.yaml"), version, strict=True)
    validation.validate(web, version, strict=True)
    # Then with the patch.
    patch = loaded("kubernetes/secret-volume.yaml")["spec"]["template"]["spec"]
    spec = web["spec"]["template"]["spec"]
    (patched,), (patching,) = spec["containers"], patch["containers"]
    assert patched["name"] == patching["name"]
    patched["args"] = patching["args"]
    patched["volumeMounts"] += patching["volumeMounts"]
    spec["volumes"] += patch["volumes"]
    validation.validate(web, version, strict=True)


def test_probes_ask_the_routes_of_the_application() -> None:
    application = (CODE / "myapp/__init__.py").read_text()
    web = container("web")
    (port,) = web["ports"]
    paths = {}
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = web[name]["httpGet"]
        assert probe["port"] == port["containerPort"] == 8080
        assert f'"{probe["path"]}"' in application
        paths[name] = probe["path"]
    # A restart does not bring Redis back.
    assert paths["livenessProbe"] == paths["startupProbe"] == "/health/live"
    assert f'add_redis_health_view("{paths["readinessProbe"]}")' in application
    assert web["readinessProbe"]["timeoutSeconds"] > 1  # foo.health_timeout


def test_kubernetes_waits_longer_than_the_servers_do() -> None:
    _, pause = container("web")["lifecycle"]["preStop"]["exec"]["command"]
    assert pod("web")["terminationGracePeriodSeconds"] > int(pause) + GRACEFUL_TIMEOUT
    worker = container("worker")
    command = [*worker["command"], *worker["args"]]
    assert pod("worker")["terminationGracePeriodSeconds"] > stop_seconds(command)


def test_the_worker_of_kubernetes_has_a_valid_command(capsys: pytest.CaptureFixture[str]) -> None:
    worker = container("worker")
    assert refused([*worker["command"], *worker["args"]], capsys) == ""
    assert not {"livenessProbe", "readinessProbe"} & worker.keys()


@pytest.mark.parametrize("name", ["web", "worker"])
def test_pods_get_the_url_from_a_secret_and_do_not_run_as_root(name: str) -> None:
    variables = {each["name"]: each for each in container(name)["env"]}
    assert "secretKeyRef" in variables["REDIS_URL"]["valueFrom"]
    assert container(name)["securityContext"]["runAsNonRoot"] is True


def test_the_volume_of_the_secret_is_where_the_settings_read_it() -> None:
    volume = loaded("kubernetes/secret-volume.yaml")["spec"]["template"]["spec"]
    (mount,) = volume["containers"][0]["volumeMounts"]
    assert "subPath" not in mount  # Kubernetes does not update such a file
    (item,) = volume["volumes"][0]["secret"]["items"]
    assert (
        f"foo.password_file = {mount['mountPath']}/{item['path']}\n"
        in (CODE / "secrets.ini").read_text()
    )


# Docker


def test_docker_copies_files_that_exist_and_are_not_ignored() -> None:
    ignored = (CODE / ".dockerignore").read_text().splitlines()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = [source for line in copies for source in line.split()]
    assert "production.ini" in sources
    for source in sources:
        assert (CODE / source).exists()
        assert f"!{source}" in ignored or f"!{source}/**" in ignored
    assert "*" in ignored  # a password beside them is not copied


def test_docker_installs_the_package_as_the_readme_does() -> None:
    (quoted,) = re.findall(r"'/src/pyramid_baseplate_redis\[cli\]'", DOCKERFILE)
    assert "pip install '/path/to/pyramid_baseplate_redis[" in (ROOT / "README.rst").read_text()
    assert quoted


def test_docker_runs_gunicorn_without_a_shell_and_not_as_root() -> None:
    (command,) = re.findall(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)
    words = [word.strip('" ') for word in command.strip("[]").split(",")]
    unit = shlex.split(setting(CODE / "myapp.service", "Service", "ExecStart"))
    assert words == ["gunicorn", *unit[1:]]
    (user,) = re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)
    assert int(user) > 0


@pytest.mark.parametrize("name", ["compose.yaml", "compose.secrets.yaml"])
def test_the_worker_of_compose_has_a_valid_command(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(loaded(name)["services"]["worker"]["command"], capsys) == ""


def test_compose_waits_longer_than_the_servers_do() -> None:
    services = loaded("compose.yaml")["services"]
    assert seconds(services["web"]["stop_grace_period"]) > GRACEFUL_TIMEOUT
    worker = services["worker"]
    assert seconds(worker["stop_grace_period"]) > stop_seconds(worker["command"])


def test_compose_names_services_and_files_that_exist() -> None:
    services = loaded("compose.yaml")["services"]
    assert services["web"]["build"] == services["worker"]["build"]
    clone = CODE / services["web"]["build"]["additional_contexts"]["pyramid_baseplate_redis"]
    assert clone.resolve() == ROOT
    variables = services["web"]["environment"]
    assert variables == services["worker"]["environment"]
    hosts = set(re.findall(r"//(\w+):", " ".join(variables.values())))
    assert hosts == {"redis", "collector"} <= services.keys()
    (mounted,) = services["collector"]["volumes"]
    assert (CODE / mounted.partition(":")[0]).is_file()
    assert loaded("collector.yaml")["service"]["pipelines"]["traces"]["receivers"] == ["otlp"]


def test_compose_mounts_the_secrets_where_the_files_read_them() -> None:
    document = loaded("compose.secrets.yaml")
    written = (CODE / "make_secrets.py").read_text()
    for name, secret in document["secrets"].items():
        assert f'open("{name}", "w")' in written
        assert secret["file"] == f"./{name}"
    services = document["services"]
    (password,) = services["web"]["secrets"]
    assert f"foo.password_file = /run/secrets/{password}\n" in (CODE / "secrets.ini").read_text()
    (users,) = services["redis"]["secrets"]
    assert f"/run/secrets/{users}" in services["redis"]["command"]

"""The container is the service in another wrapping: what its files say twice agrees with unit, installer and guide."""

import re
import shlex

import pytest
import yaml

from daemon.settings.load import DEFAULT_PATH
from daemon.settings.schema import Http
from tests.deploy.prometheus import DEPLOY

FOLDER = DEPLOY / "container"
SERVICES = ("maskcast", "prometheus", "grafana")


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, with lines joined: its keyword and the rest."""
    lines = [line for line in (FOLDER / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in joined.splitlines() if line.strip()]


def given(keyword: str) -> list[str]:
    return [rest for word, rest in instructions() if word == keyword]


def unit(key: str) -> list[str]:
    """The values of a key of the service, in words."""
    lines = (DEPLOY / "maskcast.service").read_text().splitlines()
    return [word for line in lines if line.startswith(f"{key}=") for word in line.partition("=")[2].split()]


def compose() -> dict:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def test_the_image_has_the_environment_of_the_service():
    words = dict(word.split("=", 1) for rest in given("ENV") for word in shlex.split(rest))
    assert dict(word.split("=", 1) for word in unit("Environment")).items() <= words.items()
    assert words["STATE_DIRECTORY"] == f"/var/lib/{unit('StateDirectory')[0]}"
    assert {"compute", "video", "utility"} == set(words["NVIDIA_DRIVER_CAPABILITIES"].split(","))


def test_the_image_is_what_the_installer_installs_on_what_the_guide_names():
    [guide] = re.findall(
        r"apt-get install --no-install-recommends (python3-venv .*)", (DEPLOY / "README.md").read_text()
    )
    packages, installed = given("RUN")
    assert set(guide.split()) <= set(packages.split())
    assert "/checkout/deploy/install.sh ${INSTALL}" in installed
    assert "pip install" not in installed
    needed = [line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"]
    assert {name for name in needed if not (DEPLOY.parent / name).exists()} == {"wheels"}


def test_the_daemon_runs_as_the_services_user_and_as_the_service_starts_it():
    assert given("USER") == unit("User")
    assert given("WORKDIR") == unit("WorkingDirectory")
    [entry], [command] = given("ENTRYPOINT"), given("CMD")
    started = unit("ExecStart")
    assert [*yaml.safe_load(entry), *yaml.safe_load(command)] == started[: started.index("--log")]
    assert str(DEFAULT_PATH) in command


def test_the_health_check_asks_where_the_daemon_listens():
    [check] = given("HEALTHCHECK")
    assert f"http://{Http().listen}/healthz" in check
    assert "--start-period=20m" in check
    assert unit("TimeoutStartSec") == ["20min"]


def test_what_the_daemon_may_is_what_the_service_may():
    daemon = compose()["services"]["maskcast"]
    assert daemon["stop_grace_period"] == f"{unit('TimeoutStopSec')[0]}s"
    assert daemon["group_add"] == unit("SupplementaryGroups")
    assert daemon["ulimits"]["core"] == int(unit("LimitCORE")[0])
    assert daemon["restart"] == f"on-failure:{unit('StartLimitBurst')[0]}"
    assert daemon["runtime"] == "${MASKCAST_RUNTIME:-nvidia}"
    written = {volume.split(":")[1] for volume in daemon["volumes"] if not volume.endswith(":ro")}
    [volumes] = given("VOLUME")
    assert set(volumes.split()) == {"/var/lib/maskcast", "/var/cache/maskcast"} == written - {"/etc/maskcast/curve"}


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_can_write_its_root_or_gain_a_right(name):
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_prometheus_and_grafana_have_what_deploy_holds_where_the_guide_puts_it():
    """And listen on this machine alone, at the ports that the configuration of both expects."""
    services = compose()["services"]
    assert set(services) == set(SERVICES)
    assert {service["network_mode"] for service in services.values()} == {"host"}
    mounted = {}
    for service in services.values():
        for volume in service["volumes"]:
            source, target, *_ = volume.split(":")
            if source.startswith("../"):
                assert (FOLDER / source).exists(), source
                mounted[target] = source.removeprefix("../")
            elif not source.startswith("."):
                assert source in compose()["volumes"]
    guide = (DEPLOY / "README.md").read_text()
    for target, source in mounted.items():
        assert f"deploy/{source}" in guide
        assert target.rpartition("/")[0] in guide
    assert set(mounted) == {
        "/etc/prometheus/prometheus.yml",
        "/etc/prometheus/alerts.yml",
        "/etc/grafana/provisioning",
        "/var/lib/grafana/dashboards/maskcast.json",
    }
    assert "--web.listen-address=127.0.0.1:9090" in services["prometheus"]["command"]
    assert services["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_the_guide_of_the_container_names_what_there_is():
    text = (FOLDER / "README.md").read_text()
    for name in re.findall(r"volume `(\w+)`", text):
        assert name in compose()["volumes"]
    for argument in re.findall(r"--build-arg (\w+)=", text):
        assert any(rest.startswith(f"{argument}=") for rest in given("ARG"))

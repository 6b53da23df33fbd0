"""The files of a fleet as systemd, Ray, Prometheus and Kubernetes read them."""

import functools
import json
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from daemon.fleet.settings import load_fleet
from stages.output.curve_keys import allowed_clients, key_pair, new_client, new_server, server_secret
from stages.source.testsrc import ShapesSource
from tests.deploy.prometheus import DEPLOY, Prometheus, needs_prometheus, read
from tests.deploy.test_alerts import needs_promtool, promtool
from tests.deploy.test_unit import THRESHOLD, analyze, needs_systemd
from tests.fleet.forwarder.process import running
from tests.support.program import wait_until

FLEET = DEPLOY / "fleet"
UNITS = [FLEET / f"maskcast-fleet-{name}.service" for name in ("head", "node")]
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)


def commands(unit: Path) -> list[str]:
    """The words of ``ExecStart``."""
    found = re.search(r"^ExecStart=(.*)$", unit.read_text().replace("\\\n", ""), re.MULTILINE)
    assert found
    return found[1].split()


def environment(unit: Path) -> dict[str, str]:
    lines = unit.read_text().splitlines()
    words = [word for line in lines if line.startswith("Environment=") for word in line.partition("=")[2].split()]
    return dict(word.split("=", 1) for word in words)


def documents() -> dict[str, Any]:
    """What raycluster.yaml holds, by kind."""
    # a list that is named twice must not be one list: tests change what they read
    return {
        one["kind"]: json.loads(json.dumps(one)) for one in yaml.safe_load_all((FLEET / "raycluster.yaml").read_text())
    }


@pytest.mark.process
@needs_systemd
@each_unit
def test_systemd_finds_nothing_wrong_with_a_unit_and_it_is_exposed_little(unit, tmp_path):
    program = tmp_path / "ray"
    program.touch(mode=0o755)
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/maskcast/bin/ray", str(program)))
    done = analyze("verify", str(copy))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = analyze("security", "--offline=yes", f"--threshold={THRESHOLD * 10:.0f}", "--no-pager", str(unit))
    assert done.returncode == 0, done.stdout


@each_unit
def test_ray_knows_the_options_of_a_unit(unit):
    scripts = pytest.importorskip("ray.scripts.scripts", reason="ray is in the extra fleet")
    known = {option for parameter in scripts.start.params for option in parameter.opts}
    program, verb, *options = commands(unit)
    assert (program, verb) == ("/opt/maskcast/bin/ray", "start")
    assert {option.partition("=")[0] for option in options} <= known
    assert "--block" in options
    assert ("--head" in options) == ("head" in unit.name)


def test_the_files_of_all_machines_agree():
    """Every word in ``${...}`` stands in fleet.env; the environment of daemons is that of the single daemon's unit."""
    given = {line.partition("=")[0] for line in (FLEET / "fleet.env").read_text().splitlines() if line[:1].isalpha()}
    single = environment(DEPLOY / "maskcast.service")
    for unit in UNITS:
        assert set(re.findall(r"\$\{(\w+)\}", " ".join(commands(unit)))) <= given
        assert single.items() <= environment(unit).items()
        assert environment(unit)["RAY_AUTH_MODE"] == "token"
    head, node = map(environment, UNITS)
    assert node.items() <= head.items()
    assert (head["RAY_gcs_storage"], "RAY_gcs_storage" in node) == ("rocksdb", False)


def test_the_cluster_of_kubernetes_is_tuned_as_the_units_are():
    cluster = documents()["RayCluster"]
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for group in groups:
        [container] = group["template"]["spec"]["containers"]
        variables = {one["name"]: one["value"] for one in container["env"]}
        tuned = {name: value for name, value in environment(UNITS[0]).items() if name.startswith(("RAY_", "OMP_"))}
        by_the_operator = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_gcs_storage", "RAY_gcs_storage_path"}
        assert {
            name: value for name, value in tuned.items() if name not in by_the_operator
        }.items() <= variables.items()


def test_the_cluster_of_kubernetes_fits_its_schema():
    """Of KubeRay's schema, which has 930 KB, the parts that the file uses; no other key may stand in it."""
    schema = json.loads((Path(__file__).parent / "raycluster.schema.json").read_text())
    checked = jsonschema.Draft202012Validator(schema)
    cluster = documents()["RayCluster"]
    assert [error.message for error in checked.iter_errors(cluster)] == []
    cluster["spec"]["headGroupSpec"]["template"]["spec"]["container"] = []
    cluster["spec"]["workerGroupSpecs"][0].pop("groupName")
    cluster["spec"]["authOptions"]["mode"] = "password"
    assert len(list(checked.iter_errors(cluster))) == 3


def test_every_volume_of_a_pod_is_there_and_mounted():
    cluster = documents()["RayCluster"]
    claims = set()
    for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        containers = pod["containers"] + pod["initContainers"]
        mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        claims |= {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["volumes"]
            if "persistentVolumeClaim" in volume
        }
    assert claims == {documents()["PersistentVolumeClaim"]["metadata"]["name"]}


@pytest.mark.process
def test_the_keys_that_a_pod_makes_of_its_secrets_are_accepted(tmp_path):
    """Secrets are mounted readable for others; the daemon wants keys of its own alone."""
    new_server(tmp_path / "made")
    new_client(tmp_path / "made", "forwarder", tmp_path / "made")
    for name, files in (("curve", "*.key*"), ("clients", "clients/*.key")):
        (tmp_path / "secrets" / name).mkdir(parents=True, mode=0o777)
        for path in (tmp_path / "made").glob(files):
            (tmp_path / "secrets" / name / path.name).write_bytes(path.read_bytes())
    [keys] = documents()["RayCluster"]["spec"]["headGroupSpec"]["template"]["spec"]["initContainers"]
    command = [
        word.replace("/run/", f"{tmp_path}/run/").replace("/secrets/", f"{tmp_path}/secrets/")
        for word in keys["command"]
    ]
    subprocess.run(command, check=True)
    folder = tmp_path / "run" / "maskcast" / "curve"
    assert server_secret(folder) == server_secret(tmp_path / "made")
    assert allowed_clients(folder) == allowed_clients(tmp_path / "made")
    assert key_pair(folder / "forwarder.key_secret", "")


def test_the_settings_that_the_guide_gives_are_accepted(tmp_path, bare_machine):
    """Those of several machines, and those of one, whose streams show what their prompts name."""
    trial, machines = re.findall(r"```toml\n(.*?)```", (FLEET / "README.md").read_text(), re.DOTALL)
    (tmp_path / "fleet.toml").write_text(machines)
    load_fleet(tmp_path / "fleet.toml").check_address("192.0.2.1")
    (tmp_path / "fleet.toml").write_text(trial)
    settings = load_fleet(tmp_path / "fleet.toml")
    settings.check_address("127.0.0.1")
    assert len(settings.streams) == 3
    for stream in settings.streams:
        shown = ShapesSource(stream.source)._world.labels
        assert {prompt.written for prompt in stream.prompts} == set(shown)


@pytest.mark.process
@needs_promtool
def test_prometheus_accepts_the_configuration_of_a_fleet(tmp_path):
    text = (FLEET / "prometheus.yml").read_text().replace("/etc/prometheus/maskcast.token", f"{tmp_path}/token")
    (tmp_path / "token").write_text("secret")
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "alerts.yml").write_text((DEPLOY / "alerts.yml").read_text())
    done = promtool("check", "config", "prometheus.yml", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


class Controller(BaseHTTPRequestHandler):
    """Answers as the fleet does: two daemons on one machine."""

    def __init__(self, address: str, *arguments: Any) -> None:
        self._address = address
        super().__init__(*arguments)

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == "Bearer secret" and self.path == "/fleet/targets"
        workers = ("gpu-1/0", "gpu-1/1")
        body = [{"targets": [self._address], "labels": {"node": "gpu-1", "worker": worker}} for worker in workers]
        self.send_response(200 if known else 401)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.process
@needs_prometheus
def test_prometheus_finds_the_daemons_where_the_controller_says(tmp_path):
    """The daemon is stood in for by a forwarder, which serves metrics, too."""
    (tmp_path / "token").write_text("secret")
    config = read("fleet/prometheus.yml")
    with running("--bind", "tcp://127.0.0.1:0") as forwarder:
        address = forwarder.metrics.removeprefix("http://").removesuffix("/metrics")
        with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Controller, address)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            token = str(tmp_path / "token")
            for job in config["scrape_configs"]:
                job.get("authorization", {})["credentials_file"] = token
                for found in job.get("http_sd_configs", ()):
                    found["url"] = found["url"].replace("localhost:9110", f"127.0.0.1:{server.server_port}")
                    found["authorization"]["credentials_file"] = token
            with Prometheus(tmp_path, config) as prometheus:
                both = 'up{job="maskcast", instance="127.0.0.1", node="gpu-1"}'
                wait_until(lambda: prometheus.values(both) == [1, 1])
                targets = prometheus.ask("targets")["activeTargets"]
                exporters = [one["scrapeUrl"] for one in targets if one["labels"]["job"] == "dcgm"]
                assert exporters == ["http://127.0.0.1:9400/metrics"]
            server.shutdown()

"""The Ray cluster: connecting to it, its nodes, and where the fleet's actors run. All calls need GCS, and may block."""

import re
import socket
from collections import Counter
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from daemon.fleet.protocol import Seat
from stages.errors import ConfigError, MaskcastError

NAMESPACE = "maskcast"  # one for each cluster, so that a second fleet finds the first one
CONTROLLER = "controller"
HEAD = "node:__internal_head__"  # a resource that Ray gives to the head alone
CONNECT = 5.0  # seconds


class FleetError(MaskcastError):
    """The cluster or the fleet on it does not do what it was asked for."""


def connect(address: str) -> None:
    """Connect this process to the cluster at ``address``, HOST:PORT; "auto" is that of this machine.

    Raises ConfigError where there is none, or one of another version of Ray, or one that this machine is not in;
    FleetError when it does not answer as it should, as for seconds after its head was started again.
    """
    if address != "auto":
        _probe(address)
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        if isinstance(error, ConnectionError) and error.__cause__ is None:
            raise ConfigError(
                "no Ray cluster runs on this machine; start one with: ray start --head, or name its --address HOST:PORT"
            ) from None
        raise _refusal(address, " ".join(str(error.__cause__ or error).split())) from None


def _refusal(address: str, text: str) -> MaskcastError:
    """What Ray's ``text`` means for who wants to connect."""
    if "Version mismatch" in text:
        return ConfigError(
            f"the cluster at {address} has another version of Ray or Python than this machine, which has Ray "
            f"{ray.__version__}: install the same on all ({text[:300]})"
        )
    if re.search(r"auth\w*[ -]?token", text, re.IGNORECASE):
        return ConfigError(
            f"the cluster at {address} wants its token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH to the file "
            "that its machines have, as in deploy/fleet/README.md"
        )
    if "No node info found" in text:
        return ConfigError(
            f"this machine is not in the cluster at {address}: run maskcast fleet on one that is, or add it with "
            "ray start"
        )
    return FleetError(f"cannot connect to the Ray cluster at {address}; try again in a minute ({text[-300:]})")


def controller() -> Any:
    """The fleet's controller. Raises ConfigError where there is no fleet."""
    try:
        return ray.get_actor(CONTROLLER, namespace=NAMESPACE)
    except ValueError:
        raise ConfigError(
            "no fleet runs on this cluster; start it with: maskcast fleet up --config fleet.toml"
        ) from None


def end(actor: Any) -> None:
    """End an actor for good."""
    ray.kill(actor, no_restart=True)


def nodes() -> list[dict[str, Any]]:
    """The nodes that Ray thinks alive, with what it knows of each."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def seats(slot: str) -> list[Seat]:
    """A seat for each whole ``slot`` (a resource, as "GPU") of each node."""
    there = nodes()
    counted = Counter(node["NodeName"] for node in there)
    found = []
    for node in there:
        name, node_id = node["NodeName"], node["NodeID"]
        name = name if counted[name] == 1 else f"{name}-{node_id[:6]}"
        labels = {key: value for key, value in node["Labels"].items() if not key.startswith("ray.io/")}
        kind = node["Labels"].get("ray.io/accelerator-type", "")
        for number in range(int(node["Resources"].get(slot, 0))):
            worker = f"{name}/{number}"
            found.append(Seat(worker, name, node_id, node["NodeManagerAddress"], number, kind, labels))
    return found


def on_node(node_id: str) -> dict[str, Any]:
    """Options of a detached actor that stays on its node: it is started again there, and nowhere else."""
    return {
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "num_cpus": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
    }


def takes(slot: str) -> dict[str, Any]:
    """Options of an actor that takes one ``slot``. Ray sets CUDA_VISIBLE_DEVICES for its own resource GPU."""
    return {"num_gpus": 1} if slot == "GPU" else {"resources": {slot: 1}}


def _probe(address: str) -> None:
    # ray.init tries for two minutes, and then ends the process
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--address {address}: write it as HOST:PORT, as in 10.0.0.1:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"no Ray cluster at {address}: {reason.lower()}; start one there with: ray start --head --port={port}"
        ) from None

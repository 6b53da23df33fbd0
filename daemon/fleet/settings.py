"""The settings of a fleet: those of a daemon, the table ``[fleet]``, and per stream what its node must have."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from daemon.settings import value_types as kind
from daemon.settings.load import load_as
from daemon.settings.schema import Http, Settings, StreamSettings
from stages.detection.prompts import Prompt
from stages.errors import ConfigError

_KEYS = "set publish.curve_dir (maskcast keys new --dir DIR makes it), or publish.insecure = true to let everybody in"
_OF_THE_FLEET = ("weight", "site", "replicas")  # keys of a stream that its daemon does not know


class Fleet(BaseModel):
    """The table ``[fleet]``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    listen: kind.Listen = "127.0.0.1:9110"  # HTTP of the fleet, on the head; its token is http.token
    endpoint: kind.Endpoint = "tcp://127.0.0.1:5556"  # where subscribers get the masks of all nodes, on the head
    slot: kind.Text = "GPU"  # Ray's resource of which every daemon takes 1
    full: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.95  # share of a GPU's time that streams may take
    state: str = ""  # file of the assignments, on the head; "" = ~/.local/state/maskcast/fleet.json


class FleetStream(StreamSettings):
    """One stream of a fleet."""

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0  # streams of more weight are placed first
    site: str = ""  # the label "site" that its node must have; "" = any node
    replicas: Literal[0] = 0  # a stream runs once

    def for_daemon(self) -> dict[str, Any]:
        """The body of ``POST /api/streams``: only what was set."""
        values = self.model_dump(mode="json", exclude_unset=True, exclude={"prompts", *_OF_THE_FLEET})
        prompts: tuple[Prompt, ...] = self.prompts
        return {**values, "prompts": [prompt.written for prompt in prompts]}


class FleetSettings(Settings):
    """All of ``fleet.toml``. ``publish.endpoint`` and ``http.listen`` give the daemons' ports; see `daemon_toml`."""

    fleet: Fleet = Fleet()
    streams: Annotated[tuple[FleetStream, ...], Field(strict=False)] = ()

    @property
    def http_of_fleet(self) -> Http:
        """Address and access of the fleet's own HTTP server."""
        return Http(listen=self.fleet.listen, token=self.http.token, insecure=self.http.insecure)

    @property
    def state_file(self) -> Path:
        """Where the controller keeps the assignments."""
        return Path(self.fleet.state or "~/.local/state/maskcast/fleet.json").expanduser()

    def check_address(self, address: str) -> None:
        """Raises ConfigError when daemons must not publish on this address of their node for want of keys."""
        if not (kind.is_loopback(address) or self._lets_in):
            raise ConfigError(f"the daemon on {address} publishes to other machines, which needs keys; {_KEYS}")

    @property
    def _lets_in(self) -> bool:
        """Masks may leave a machine: to those with a key, or to everybody."""
        return bool(self.publish.curve_dir) or self.publish.insecure

    @model_validator(mode="after")
    def _check_addresses(self) -> Self:
        listen, endpoint, daemons = self.fleet.listen, self.fleet.endpoint, self.publish.endpoint
        if not (self.http.token or self.http.insecure or kind.is_loopback(listen.rpartition(":")[0].strip("[]"))):
            raise ValueError(
                f"fleet.listen = {listen} can be reached from other machines and needs a token; "
                "set http.token, or http.insecure = true to let everybody in"
            )
        if not (kind.is_local_endpoint(endpoint) or self._lets_in):
            raise ValueError(f"fleet.endpoint = {endpoint} can be reached from other machines and needs keys; {_KEYS}")
        if not daemons.startswith("tcp://"):
            raise ValueError(f"publish.endpoint = {daemons}: daemons of a fleet publish on tcp://, for the forwarder")
        if self.state.dir:
            raise ValueError("state.dir: daemons of a fleet keep nothing, fleet.state does; leave it out")
        return self


def load_fleet(config: Path, overrides: Mapping[str, Any] | None = None) -> FleetSettings:
    """The settings in ``config``. Raises ConfigError as `daemon.settings.load.load` does."""
    return load_as(FleetSettings, config, overrides)


def daemon_toml(settings: FleetSettings, address: str, number: int, token: str) -> str:
    """The configuration of a daemon without streams, as TOML.

    It listens on ``address``, its node's, so that the forwarder reaches it. Its ports are those of the settings plus
    ``number``, which counts the daemons of a node from 0; port 0 stays 0, any free one. Where the settings have no
    token, HTTP stays on loopback, with the daemon's own ``token``, or is open to everybody if they say so. A folder of
    recordings is of one daemon: the others of a node have theirs in it.
    """
    tables = settings.model_dump(mode="json", exclude_unset=True, exclude={"streams", "fleet"})
    open_to_others = settings.http.token or settings.http.insecure
    http_host = address if open_to_others else "127.0.0.1"
    tables["http"] = {
        **tables.get("http", {}),
        "listen": f"{http_host}:{_port(settings.http.listen, number)}",
        "token": settings.http.token if open_to_others else token,
    }
    if settings.record.dir and number:
        tables["record"] = {**tables["record"], "dir": str(Path(settings.record.dir) / f"daemon-{number}")}
    endpoint = f"tcp://{address}:{_port(settings.publish.endpoint, number)}"
    tables["publish"] = {**tables.get("publish", {}), "endpoint": endpoint}
    return "\n".join(_table(name, values) for name, values in tables.items())


def _port(address: str, number: int) -> int:
    port = address.rpartition(":")[2]
    base = 0 if port == "*" else int(port)
    return base + number if base else 0


def _table(name: str, values: Mapping[str, Any]) -> str:
    # JSON's texts, numbers and truth values are TOML's
    return "".join(
        [f"[{name}]\n", *(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())]
    )

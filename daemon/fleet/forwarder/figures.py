"""The forwarder's Prometheus metrics, and the HTTP server that serves them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import start_http_server

disable_created_metrics()  # type: ignore[no-untyped-call] # the _created series, one for each counter, are not used


class Figures:
    """A registry of its own: the forwarder is a process of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.messages = Counter("maskcast_forwarder_messages", "Messages that were passed on.", registry=self.registry)
        self.dropped = Counter(
            "maskcast_forwarder_dropped",
            "Messages that were not passed on, since a newer publisher of their stream was heard.",
            ("reason",),
            registry=self.registry,
        )
        self.fenced = self.dropped.labels("fence")
        self.subscribers = Gauge("maskcast_forwarder_subscribers", "Subscribers connected.", registry=self.registry)
        self.daemons = Gauge("maskcast_forwarder_daemons", "Daemons that it reads from.", registry=self.registry)
        self.refused = Counter(
            "maskcast_forwarder_refused", "Handshakes that a daemon refused.", registry=self.registry
        )

    def serve(self, host: str, port: int) -> str:
        """Serve them on a thread of its own; returns the URL. Raises OSError when the address cannot be used."""
        server, _ = start_http_server(port, host, self.registry)
        return f"http://{host}:{server.server_port}/metrics"

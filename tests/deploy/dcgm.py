"""A fake of NVIDIA's DCGM exporter: its metric names and labels, with made-up values."""

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from tests.support.media import free_port

# the default metrics that the dashboard and the alerts use
FIGURES = {
    "DCGM_FI_DEV_GPU_UTIL": 63.0,  # percent
    "DCGM_FI_DEV_DEC_UTIL": 21.0,  # percent
    "DCGM_FI_DEV_GPU_TEMP": 71.0,  # degrees Celsius
    "DCGM_FI_DEV_FB_USED": 21_504.0,  # MiB
    "DCGM_FI_DEV_FB_FREE": 60_416.0,  # MiB
}
LABELS = {
    "gpu": "0",
    "UUID": "GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52",
    "pci_bus_id": "00000000:00:1E.0",
    "device": "nvidia0",
    "modelName": "NVIDIA H100 80GB HBM3",
    "Hostname": "gate-box",
    "DCGM_FI_DRIVER_VERSION": "580.65.06",
}


def serve() -> str:
    """Serve the metrics until the process ends; returns host:port."""
    registry = CollectorRegistry()
    for name, value in FIGURES.items():
        Gauge(name, "As NVIDIA's exporter has it.", tuple(LABELS), registry=registry).labels(**LABELS).set(value)
    port = free_port()
    start_http_server(port, "127.0.0.1", registry)
    return f"127.0.0.1:{port}"

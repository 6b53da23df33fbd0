"""The detector's checkpoint from a hub: real downloads by huggingface_hub, from a server on this machine."""

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from stages.detect import EMBEDDED

LOAD_EACH = """
import sys, torch
from stages.detect import Detector
from stages.errors import ModelError
for name in sys.argv[1:]:
    try:
        Detector(name, torch.device("cpu"), torch.float32)
        print("loaded", name)
    except ModelError as error:
        print(error)
"""


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download needs: one repository, owner/shapes, with the embedded files."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        repository, _, rest = self.path.split("?")[0].partition("/resolve/")
        file = EMBEDDED / rest.rpartition("/")[2]
        found = repository == "/owner/shapes" and file.is_file()
        content = file.read_bytes() if found else b""
        self.send_response(200 if found else 404)
        self.send_header("X-Repo-Commit", "c" * 40)
        self.send_header("ETag", hashlib.sha256(content).hexdigest())
        self.send_header("Content-Length", str(len(content)))
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound" if "owner/shapes" in self.path else "RepoNotFound")
        self.end_headers()
        return content

    def log_message(self, *_: object) -> None:
        pass


def _load_elsewhere(home: Path, names: list[str], **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", LOAD_EACH, *names],
        cwd=EMBEDDED.parents[2],
        env=os.environ | {"HF_HOME": str(home), "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_hub_id_is_downloaded_or_refused_in_one_line(tmp_path: Path) -> None:
    """A known id loads, an unknown one is refused, and without network and cache any is; nothing else is printed."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{hub.server_port}"
        online = _load_elsewhere(tmp_path / "a", ["owner/shapes", "owner/none"], HF_ENDPOINT=address)
        offline = _load_elsewhere(tmp_path / "b", ["owner/shapes"], HF_HUB_OFFLINE="1")
        online_out, offline_out = online.communicate(timeout=120), offline.communicate(timeout=120)
        hub.shutdown()
    known, unknown = online_out[0].splitlines()
    (unreachable,) = offline_out[0].splitlines()
    assert known == "loaded owner/shapes"
    assert unknown.startswith(
        "detector owner/none cannot be loaded: owner/none is not a local folder and is not a valid"
    )
    assert unreachable.startswith("detector owner/shapes cannot be loaded: We couldn't connect to")
    assert unknown.endswith("check the name and the network, or give a folder with the model")
    assert unreachable.endswith("check the name and the network, or give a folder with the model")
    assert (online_out[1], offline_out[1]) == ("", "")

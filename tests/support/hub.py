"""A local fake of the Hugging Face hub: a real HTTP server that answers the requests of huggingface_hub."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """Repositories by name, each a folder of files."""

    def __init__(self, repositories: Mapping[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repositories = repositories
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.breaks_off_after: int | None = None  # bytes of a download after which the connection closes

    def handle_error(self, *_: object) -> None:
        """Ignore clients that disconnect."""


@contextmanager
def serving(repositories: Mapping[str, Path]) -> Iterator[Hub]:
    """A running hub; set HF_ENDPOINT to its ``endpoint``."""
    with Hub(repositories) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        yield hub
        hub.shutdown()


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = urlsplit(self.path).path
        if found := re.fullmatch(r"/api/models/(.+/.+)/(revision|tree)/\w+", path):
            self._about(self.server.repositories.get(found[1]), found[1], found[2])
        elif found := re.fullmatch(r"/(.+/.+)/resolve/\w+/(.+)", path):
            self._file(self.server.repositories.get(found[1]), found[2], body)
        else:
            self._end(404, {})

    def _about(self, folder: Path | None, name: str, question: str) -> None:
        if folder is None:
            self._end(404, {"X-Error-Code": "RepoNotFound"})
            return
        files = [file for file in sorted(folder.iterdir()) if file.is_file()]
        tree = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _oid(f)} for f in files]
        info = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": f.name} for f in files]}
        content = json.dumps(tree if question == "tree" else info).encode()
        self._end(200, {"Content-Type": "application/json"}, content, body=True)

    def _file(self, folder: Path | None, path: str, body: bool) -> None:
        if folder is None or not (folder / path).is_file():
            code = "RepoNotFound" if folder is None else "EntryNotFound"
            self._end(404, {"X-Error-Code": code, "X-Repo-Commit": COMMIT})
            return
        content, etag = (folder / path).read_bytes(), _oid(folder / path)
        start = int(re.sub(r"\D", "", self.headers.get("Range", "0").partition("-")[0]))
        about = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if start:
            about["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._end(206 if start else 200, about, content[start:], body)

    def _end(self, status: int, headers: Mapping[str, str], content: bytes = b"", body: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[: self.server.breaks_off_after])
        if body and len(content) > (self.server.breaks_off_after or len(content)):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def _oid(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()

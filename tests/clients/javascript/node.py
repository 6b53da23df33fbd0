"""deploy/clients/javascript installed in a folder of its own, and a program there that prints what it receives."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.clients.clients import install
from tests.support.program import PATIENCE

PROGRAM = """
import { subscribe, events } from "./index.js";
const { what, endpoint, options } = JSON.parse(process.argv[2]);
try {
  for await (const item of { subscribe, events }[what](endpoint, options)) {
    const { objects, jpeg, ...rest } = item;
    const masks = objects?.map(({ crop, mask, id, area, rle }) => ({
      id, area, size: rle.size, mask: Buffer.from(mask).toString("base64"),
      crop: { ...crop, pixels: crop.pixels.length },
    }));
    console.log(JSON.stringify({ ...rest, masks, jpeg: jpeg && Buffer.from(jpeg).toString("base64") }));
  }
  console.log(JSON.stringify("end"));
} catch (error) {
  console.log(JSON.stringify({ error: error.name, message: error.message }));
}
"""


def installed(folder: Path) -> Path:
    place = install("javascript", folder)
    (place / "program.mjs").write_text(PROGRAM)
    return place


class Program:
    """The running program."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def next(self) -> Any:
        """The next frame or event; "end" after the last, ``{"error": ...}`` when it threw."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended with {self.process.wait()}: {self.process.communicate()[1]}"
        return json.loads(line)

    def rest(self) -> list[Any]:
        """All up to the end of the program, which must end by itself."""
        out, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0
        return [json.loads(line) for line in out.splitlines()]


@contextmanager
def running(place: Path, endpoint: str, what: str = "subscribe", **options: Any) -> Iterator[Program]:
    arguments = json.dumps({"what": what, "endpoint": endpoint, "options": options})
    process = subprocess.Popen(
        ["node", "program.mjs", arguments], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield Program(process)
    finally:
        process.kill()
        process.communicate()

"""What ``rle`` of each reader in deploy/clients/readers makes of the golden masks: every pixel at its place."""

import json
import subprocess
from pathlib import Path

import cv2
import pytest

from tests.clients.clients import RUN, SOURCES, build
from tests.golden.make import FOLDER
from tests.support.program import PATIENCE

pytestmark = pytest.mark.process

PRINTERS = {  # in the place of the reader: a mask a line on stdin, its pixels row by row on stdout
    "python": """
import json, sys
from rle import decode
for line in sys.stdin:
    print("".join(str(pixel) for pixel in decode(json.loads(line)).ravel()))
""",
    "javascript": """
import { readFileSync } from "node:fs";
import { decode } from "./rle.mjs";
for (const line of readFileSync(0, "utf8").trim().split("\\n")) console.log(decode(JSON.parse(line)).join(""));
""",
    "go": """
package main
import ("encoding/json"; "fmt"; "io"; "os")
func main() {
	lines := json.NewDecoder(os.Stdin)
	for {
		var mask Mask
		if lines.Decode(&mask) == io.EOF { return }
		for _, pixel := range mask.decode() {
			if pixel { fmt.Print(1) } else { fmt.Print(0) }
		}
		fmt.Println()
	}
}
""",
    "cpp": """
#include "rle.hpp"
int main() {
  for (std::string line; std::getline(std::cin, line); std::cout << '\\n')
    for (const int pixel : decode(json::parse(line))) std::cout << pixel;
}
""",
}
SMALL = 1000  # pixels; of the large masks one is enough


def golden() -> list[tuple[dict, Path]]:
    """Masks as in the headers, and their pictures."""
    masks = []
    for entry in json.loads((FOLDER / "index.json").read_text()):
        header = json.loads((FOLDER / entry["parts"][1]).read_text())
        masks += [(thing["mask"], FOLDER / entry["masks"][str(thing["id"])]) for thing in header.get("objects", ())]
    large = [pair for pair in masks if pair[0]["size"][0] * pair[0]["size"][1] > SMALL]
    return [pair for pair in masks if pair not in large] + large[-1:]


@pytest.mark.parametrize("language", list(SOURCES))
def test_every_pixel_of_every_mask_is_at_its_place(language: str, tmp_path: Path) -> None:
    place = build(language, tmp_path, lambda copy: (copy / SOURCES[language]).write_text(PRINTERS[language]))
    masks = golden()
    lines = "".join(json.dumps(mask) + "\n" for mask, _ in masks)
    done = subprocess.run(
        RUN[language], cwd=place, input=lines, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert len(masks) > 100
    for printed, (_, png) in zip(done.stdout.splitlines(), masks, strict=True):
        pixels = (cv2.imread(str(png), cv2.IMREAD_UNCHANGED) > 0).ravel()
        assert printed == "".join("1" if pixel else "0" for pixel in pixels), png

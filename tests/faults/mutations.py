"""Fuzzing with damaged video files: none may crash or hang the reader, or give anything but frames or a one-line error.

python -m tests.faults.mutations [--files N] [--first N] [--keep DIR]

The files are clips of the test source, and of ../shared/data/clips if it exists, as MP4, MPEG-TS and MKV. The damage is
a function of the file's number. ``--first 523 --files 1 --keep DIR`` creates file 523 again and keeps it. The exit code
is 1 when a file crashed or hung the reading process or gave a wrong result; such files are kept at the printed path.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.faults.mutations_clips import CONTAINERS, DAMAGES, Clips, Damaged
from tests.faults.mutations_reader import VERDICTS, Reader, Reading

PATIENCE = 60.0  # timeout per file in seconds; the slowest file takes about one
BAD = ("wrong", "crash", "hang")


def readings(folder: Path, first: int, files: int, keep: bool = False) -> Iterator[tuple[int, Damaged, Reading]]:
    """Create and read one file after the other in ``folder``; files with a bad verdict are kept there."""
    clips = Clips(folder)
    with closing(Reader()) as reader:
        for number in range(first, first + files):
            damaged = clips.damaged(number)
            reading = reader.read(damaged.path, PATIENCE)
            if not keep and reading.verdict not in BAD:
                damaged.path.unlink()
            yield number, damaged, reading


def table(verdicts: Counter[tuple[str, str]], rows: tuple[str, ...]) -> str:
    """Markdown table of the number of files by verdict, for each of ``rows`` and in all; keys are (row, verdict)."""
    lines = ["| | files | " + " | ".join(VERDICTS) + " |", "|---" * (len(VERDICTS) + 2) + "|"]
    for row in (*rows, "all"):
        counts = [sum(n for (of, v), n in verdicts.items() if v == name and row in (of, "all")) for name in VERDICTS]
        lines.append(f"| {row} | {sum(counts)} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutations", description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the damaged files there")
    arguments = parser.parse_args()
    by_damage: Counter[tuple[str, str]] = Counter()
    by_container: Counter[tuple[str, str]] = Counter()
    slowest, frames, errors, last = (0.0, ""), 0, 0, Reading("clean")
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="mutations-"))
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for number, damaged, reading in readings(folder, arguments.first, arguments.files, bool(arguments.keep)):
        by_damage[damaged.damage, reading.verdict] += 1
        by_container[damaged.container, reading.verdict] += 1
        slowest = max(slowest, (time.monotonic() - began, damaged.path.name))
        frames, errors, last = frames + reading.frames, errors + reading.errors, reading
        if reading.verdict in BAD or arguments.files == 1:
            print(f"{number}, {damaged.path} of {damaged.clip}: {reading.verdict} {reading.detail}", flush=True)
        began = time.monotonic()
    bad = any(by_damage[damage, verdict] for damage in DAMAGES for verdict in BAD)
    if not (bad or arguments.keep):
        shutil.rmtree(folder)
    print(table(by_damage, tuple(DAMAGES)), table(by_container, CONTAINERS), sep="\n\n")
    print(f"\n{frames} frames read, {errors} errors counted; slowest {slowest[1]}: {slowest[0]:.1f} s")
    print(f"reading process: {last.files} files, {last.threads} threads, at most {last.peak / 2**20:.0f} MiB")
    sys.exit(bad)


if __name__ == "__main__":
    main()

"""Soak test of the whole daemon: resident memory, open files, threads and track memory must not grow.

python -m tests.soak [--frames N] [--samples N] [--live [FPS]] [--record] [--plot FILE.png] [--out FILE.md]

It runs ``maskcast run`` as a process, with the embedded models on a test source whose objects leave for longer than
``lost_after`` and return, so that tracks start, end and return continuously. One subscriber reads all messages; the
metrics are scraped with each sample. With ``--live`` the source is a camera, and the daemon drops and counts the frames
that it cannot process in time. ``--record`` also records, into a temporary folder. Rows are printed, and written to
``--out``, as they are measured. The exit code is 1 when something grew or a message was missing in a run of 20,000
frames or more; a shorter run is not judged.
"""

import argparse
import os
import platform
import sys
from pathlib import Path

from tests.soak.sampling import Sample, Soak
from tests.soak.verdict import LEAST_FRAMES, conclude, plot

LIVE_FPS = 15.0  # that two cores can process beside other work
HEADS = ("frames", "FPS", "RSS MiB", "files", "threads", "track memory", "tracks started/ended/returned")


def row(sample: Sample, before: Sample | None) -> str:
    """A line of a markdown table; the first sample has no FPS."""
    fps = f"{(sample.frames - before.frames) / (sample.seconds - before.seconds):.1f}" if before else "-"
    memory = (f"{sample.rss / 2**20:.1f}", str(sample.files), str(sample.threads), f"{sample.track_memory:,}")
    return "| " + " | ".join([f"{sample.frames:,}", fps, *memory, _tracks(sample)]) + " |"


def _tracks(sample: Sample) -> str:
    return f"{sample.started}/{sample.ended}/{sample.returned}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--live", type=float, nargs="?", const=LIVE_FPS, metavar="FPS", help="a camera, not a file")
    parser.add_argument("--record", action="store_true", help="record into a temporary folder")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the table there too")
    arguments = parser.parse_args()
    if arguments.samples < 5 or arguments.frames < 64 * (arguments.samples + 1):
        parser.error("give at least 5 --samples, and more than 64 --frames for each")
    return arguments


def main() -> None:
    arguments = parse()
    out = arguments.out.open("w", buffering=1) if arguments.out else None

    def say(line: str) -> None:
        print(line, flush=True)
        if out is not None:
            out.write(f"{line}\n")

    say(f"# The whole daemon over {arguments.frames:,} frames\n")
    more = (f" --live {arguments.live:g}" if arguments.live else "") + " --record" * arguments.record
    say(f"    python -m tests.soak --frames {arguments.frames}{more}\n")
    say(f"{os.cpu_count()} cores ({platform.machine()}), the embedded models on the CPU.\n")
    say("| " + " | ".join(HEADS) + " |\n" + "|---" * len(HEADS) + "|")
    soak, samples = Soak(arguments.frames, arguments.live, arguments.record), []
    for sample in soak.samples(arguments.samples):
        say(row(sample, samples[-1] if samples else None))
        samples.append(sample)
    judged, good = arguments.frames >= LEAST_FRAMES, True
    say("")
    for line, as_it_should in conclude(samples, soak, arguments.frames):
        say(f"- {line}" + (": good" if as_it_should else ": BAD") * judged)
        good = good and as_it_should
    say(
        "\n"
        + ("verdict: " + ("flat" if good else "NOT FLAT") if judged else f"not judged below {LEAST_FRAMES:,} frames")
    )
    if arguments.plot:
        plot(samples, arguments.plot)
    sys.exit(judged and not good)


if __name__ == "__main__":
    main()

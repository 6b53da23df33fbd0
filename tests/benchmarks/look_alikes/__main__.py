"""The share of look-alikes that return under their own id, by each cue alone and by all together.

python -m tests.benchmarks.look_alikes [--seeds N ...] [--light plain|wild] [--cuts] [--every N] [--cues NAME ...]
    [--seconds N] [--json]

The look-alikes differ in pattern only; see `tests.benchmarks.look_alikes.worlds`. Detections are the truth's boxes, so
that only identities are measured; masks are the segmenter's. A return is right when the object has, for most of the
frames of this visit, the id that it had for most of its last one. Absences are short or long: a track ends after 90
frames out of sight (``lost_after``), and then only the gallery knows it. With ``--cuts`` the camera cuts ten times to
and fro between two views of a wild world instead, and all objects of a view return with it.
"""

import argparse
import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from stages.tracking.identity.looks import CUES
from tests.benchmarks.look_alikes.returns import Job, measure, shares

HELD_OUT = range(520, 530)  # seeds that were not used for tuning


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.look_alikes", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(HELD_OUT))
    parser.add_argument("--light", choices=("plain", "wild"), default="plain")
    parser.add_argument("--cuts", action="store_true", help="ten cuts between two views of a wild world")
    parser.add_argument("--every", type=int, default=10, help="frames between keyframes")
    parser.add_argument("--seconds", type=int, default=20, help="of each world")
    parser.add_argument("--cues", nargs="*", choices=CUES, help="these cues together, instead of the table")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes; one a core")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    variants = {"all": CUES} | {cue: (cue,) for cue in CUES} | {"none (motion alone)": ()}
    if arguments.cues is not None:
        variants = {"as asked": tuple(arguments.cues)}
    context = multiprocessing.get_context("spawn")
    light, table = arguments.light == "wild", {}
    with ProcessPoolExecutor(arguments.jobs, context) as pool:
        jobs = {
            name: [
                Job(seed, light, arguments.cuts, arguments.every, cues, arguments.seconds) for seed in arguments.seeds
            ]
            for name, cues in variants.items()
        }
        running = {name: [pool.submit(measure, job) for job in some] for name, some in jobs.items()}
        for name, some in running.items():
            table[name] = shares([one for each in some for one in each.result()])
            print(name, table[name], file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps(table))
        return
    print(f"{'':22}" + "".join(f"{name:>10}" for name in next(iter(table.values()))))
    for name, row in table.items():
        print(f"{name:22}" + "".join(f"{value:10.3g}" for value in row.values()))


if __name__ == "__main__":
    main()

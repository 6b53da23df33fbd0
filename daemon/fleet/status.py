"""What a fleet looks like now: plain values for JSON, and tables for people."""

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from rich.table import Column, Table

from daemon.fleet.assignments import Assignments
from daemon.fleet.members import Member
from daemon.fleet.protocol import Seat


def status(fleet: Assignments, seats: Mapping[str, Seat], now: float) -> dict[str, Any]:
    """``seats``: those of the nodes that Ray thinks alive, by worker. ``now``: as of `Assignments`."""
    running = defaultdict(list)
    for stream in fleet.streams.values():
        running[stream.worker].append(stream.name)
    names = sorted({*fleet.members.nodes(), *seats})
    workers = [_worker(fleet, name, fleet.members.get(name), seats, now) for name in names]
    return {
        "masks": fleet.settings.fleet.endpoint,
        "workers": [worker | {"streams": sorted(running[worker["worker"]])} for worker in workers],
        "streams": [_stream(fleet, name, now) for name in sorted(fleet.streams)],
    }


def _worker(
    fleet: Assignments, name: str, member: Member | None, seats: Mapping[str, Seat], now: float
) -> dict[str, Any]:
    seat = member.seat if member is not None else seats[name]
    report = member.report if member is not None else None
    load = report.load if report is not None else None
    state, problem = _state(fleet, member, seat, now)
    return {
        "worker": name,
        "node": seat.node,
        "address": seat.address,
        "labels": dict(seat.labels),
        "kind": seat.kind,
        "state": state,
        "problem": problem,
        "page": report.page + "/" if report is not None and report.page else "",
        "share": load["share"] if load is not None else None,
        "memory": load["memory"] if load is not None else None,
    }


def _state(fleet: Assignments, member: Member | None, seat: Seat, now: float) -> tuple[str, str]:
    """``starting``, ``ready``, ``draining``, ``drained``, ``leaving`` or ``silent``, and what is wrong."""
    if member is None:
        return "starting", "its worker has not come yet; if this lasts, something else has its slot"
    lost = "the cluster has given up its node, which it could not reach" if fleet.members.is_leaving(seat) else ""
    if not fleet.members.hears(seat.worker, now):
        return "silent", "; ".join(filter(None, (f"not heard of for {now - member.heard:.0f} s", lost)))
    if lost:
        return "leaving", f"{lost}; Ray ends there, and is started again"
    report, ahead = member.report, member.clock.ahead
    clock = (
        f"its clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}: set it, as with NTP" if ahead else ""
    )
    problem = "; ".join(text for text in (report.problem, clock) if text)
    if report.drained:
        return "drained", clock
    if fleet.members.is_draining(seat):
        return "draining", problem
    return ("ready" if report.load is not None else "starting"), problem


def _stream(fleet: Assignments, name: str, now: float) -> dict[str, Any]:
    stream, running = fleet.streams[name], fleet.running[name]
    member = fleet.members.get(stream.worker)
    state, reason = running.view.get("state", "starting"), running.view.get("reason", "")
    if stream.worker is None:
        state, reason = "waiting", running.waiting or "it is being placed"
    elif not fleet.members.hears(stream.worker, now):
        state, reason = "silent", "its worker is not heard of"
    elif stream.target is not None:
        state, reason = "moving", f"to {stream.target}"
    return {
        "stream": name,
        "node": member.seat.node if member is not None else None,
        "worker": stream.worker,
        "since": running.since,
        "state": state,
        "reason": reason or running.waiting,
        "site": stream.site or "",
        "fence": fleet.fence(name),
        "session": running.session,
        "moves": running.moves,
        "fps": running.view.get("fps"),
    }


def targets(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All daemons' addresses, as Prometheus' HTTP service discovery reads them (``http_sd_config``)."""
    return [
        {
            "targets": [worker["page"].removeprefix("http://").rstrip("/")],
            "labels": {"node": worker["node"], "worker": worker["worker"]},
        }
        for worker in status["workers"]
        if worker["page"] and worker["state"] != "silent"
    ]


def tables(status: Mapping[str, Any]) -> tuple[Table, Table]:
    """The workers and the streams."""
    page = Column("page", no_wrap=True)
    workers = Table("node", "worker", "state", "load", "memory", "streams", page, box=None, pad_edge=False)
    for one in status["workers"]:
        load = "" if one["share"] is None else f"{one['share']:.0%}"
        memory = (
            ""
            if not one["memory"]
            else f"{one['memory']['used'] / 2**30:.1f} of {one['memory']['budget'] / 2**30:.1f} GiB"
        )
        state = f"{one['state']}: {one['problem']}" if one["problem"] else one["state"]
        workers.add_row(one["node"], one["worker"], state, load, memory, str(len(one["streams"])), one["page"])
    streams = Table("stream", "node", "since", "state", "FPS", box=None, pad_edge=False)
    for one in status["streams"]:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["since"]))
        state = f"{one['state']}: {one['reason']}" if one["reason"] else one["state"]
        fps = "" if one["fps"] is None else f"{one['fps']:.1f}"
        streams.add_row(one["stream"], one["node"] or "-", since, state, fps)
    return workers, streams

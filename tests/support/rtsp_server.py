#!/usr/bin/python3
"""An RTSP camera for tests, with GStreamer: ``/usr/bin/python3 tests/support/rtsp_server.py PORT CLIP [CLIP ...]``.

It plays the MP4 files (H.264) in a loop and in real time at rtsp://127.0.0.1:PORT/stream. All clients share one camera
and join at its current position. It imports nothing of maskcast, because the system's interpreter runs it, which has
GStreamer's bindings.
"""

import argparse
import os
import sys
import threading
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer
except (ImportError, ValueError) as error:
    sys.exit(str(error))

READ = (
    "filesrc name=file ! qtdemux ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au"
    " ! appsink name=units sync=false"
)
# the parser repeats the parameter sets: rtph264pay (1.22) would put them between the slices of one picture, too
CAMERA = (
    "appsrc name=camera is-live=true format=time block=true max-buffers=2 caps=video/x-h264,"
    "stream-format=byte-stream,alignment=au ! h264parse config-interval=-1"
    " ! rtph264pay name=pay0 pt=96 timestamp-offset={timestamp}"
)
MICROPHONE = " audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 pt=8"
ELEMENTS = (
    "qtdemux",
    "h264parse",
    "rtph264pay",
    "appsrc",
    "audiotestsrc",
    "alawenc",
    "rtppcmapay",
    "multiudpsink",
    "netsim",
)
TRANSPORTS = {"tcp": GstRtsp.RTSPLowerTrans.TCP, "udp": GstRtsp.RTSPLowerTrans.UDP}


def read_clip(path):
    """The clip's access units as (bytes, presentation time, decoding time), and its length; times in nanoseconds."""
    pipeline = Gst.parse_launch(READ)
    pipeline.get_by_name("file").set_property("location", str(path))
    pipeline.set_state(Gst.State.PLAYING)
    units, end = [], 0
    while sample := pipeline.get_by_name("units").emit("pull-sample"):
        buffer = sample.get_buffer()
        units.append((buffer.extract_dup(0, buffer.get_size()), buffer.pts, buffer.dts))
        end = max(end, buffer.pts + buffer.duration)
    pipeline.set_state(Gst.State.NULL)
    if not units:
        sys.exit(f"no H.264 in {path}")
    first = units[0][2]
    return [(data, pts - first, dts - first) for data, pts, dts in units], end - first


def access_units(clips, once):
    """The access units of all clips, with times that continue over the repeats."""
    origin = 0
    for _ in count() if not once else range(1):
        for units, length in clips:
            for data, pts, dts in units:
                yield data, origin + pts, origin + dts
            origin += length


def feed(camera, clips, asked):
    """Push access units in real time until the camera is closed, or up to ``--freeze-after`` units."""
    begun = time.monotonic_ns()
    for number, (data, pts, dts) in enumerate(access_units(clips, asked.once)):
        if number == asked.freeze_after:
            return
        time.sleep(max(0, begun + dts - time.monotonic_ns()) / 1e9)
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts, buffer.dts = pts, dts
        if camera.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
            return
    camera.emit("end-of-stream")


def serve(asked):
    clips = [read_clip(path) for path in asked.clips]
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(asked.port))
    factory = GstRtspServer.RTSPMediaFactory(shared=True)
    factory.set_launch(f"( {CAMERA.format(timestamp=asked.timestamp)}{MICROPHONE if asked.sound else ''} )")

    if asked.transport:
        factory.set_protocols(TRANSPORTS[asked.transport])

    def configure(_, media):
        if asked.network:
            impair(media.get_element(), media.get_stream(0).get_srcpad(), asked.network)
        camera = media.get_element().get_by_name_recurse_up("camera")
        threading.Thread(target=feed, args=(camera, clips, asked), daemon=True).start()

    factory.connect("media-configure", configure)
    if asked.login or asked.certificate:
        protect(server, factory, asked)
    server.get_mount_points().add_factory("/stream", factory)
    if not server.attach(None):
        sys.exit(f"port {asked.port} is in use")


def impair(camera, packets, network):
    """Send the packets through GStreamer's simulation of a bad network (its element netsim)."""
    netsim = Gst.ElementFactory.make("netsim")
    for setting in network.split():
        Gst.util_set_object_arg(netsim, *setting.split("="))
    camera.add(netsim)
    payloader = packets.get_target()
    packets.set_target(None)
    payloader.link(netsim.get_static_pad("sink"))
    packets.set_target(netsim.get_static_pad("src"))


def protect(server, factory, asked):
    """Require a user and a password, or encrypt with TLS."""
    auth = GstRtspServer.RTSPAuth()
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    for right in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role("viewer", right, True)
    factory.set_permissions(permissions)
    if asked.certificate:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(str(asked.certificate)))
    if not asked.login:
        auth.set_default_token(token)
    elif asked.digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(*asked.login.split(":", 1), token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(*asked.login.split(":", 1)), token)


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("clips", type=Path, nargs="+", metavar="CLIP")
    parser.add_argument("--once", action="store_true", help="end the stream after the last clip")
    parser.add_argument("--freeze-after", type=int, metavar="N", help="send N pictures, then no more")
    parser.add_argument("--sound", action="store_true", help="send sound beside the pictures")
    parser.add_argument("--timestamp", type=int, default=0, help="the first RTP time stamp, of 2**32")
    parser.add_argument("--login", metavar="USER:PASSWORD", help="refuse everybody else")
    parser.add_argument("--digest", action="store_true", help="ask for the password by digest")
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="speak TLS, as rtsps://")
    parser.add_argument("--transport", choices=TRANSPORTS, help="refuse all others")
    parser.add_argument("--network", metavar="SETTINGS", help="of netsim, as in 'drop-probability=0.3 max-delay=50'")
    parser.add_argument("--leave-with-stdin", action="store_true", help="end when standard input is closed")
    return parser.parse_args(words)


def main(words):
    Gst.init(None)
    missing = [name for name in ELEMENTS if Gst.ElementFactory.find(name) is None]
    if missing:
        sys.exit(f"GStreamer lacks {', '.join(missing)}")
    if words == ["--check"]:
        return
    asked = parse(words)
    serve(asked)
    if asked.leave_with_stdin:
        GLib.unix_fd_add_full(0, 0, GLib.IOCondition.HUP, lambda *_: os._exit(0))
    print(f"rtsp://127.0.0.1:{asked.port}/stream", flush=True)
    with suppress(KeyboardInterrupt):
        GLib.MainLoop().run()


if __name__ == "__main__":
    main(sys.argv[1:])

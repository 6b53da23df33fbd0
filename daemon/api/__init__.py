"""HTTP server: metrics, health, control of the running daemon, pictures and the live page.

A client that may make changes decides what the daemon opens and writes: ``source`` is anything that FFmpeg opens,
including local files and addresses in the local network, and ``record.dir`` is any folder that the daemon's user may
write to. With ``http.token``, every change needs the token. Without a token, on loopback, every user of this machine
may make changes, but not start recordings. A page of another origin can do nothing, even though the browser sends the
cookie along.
"""

from daemon.api.server import Api as Api

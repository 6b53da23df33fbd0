"""HTTP: metrics and health, control of the running daemon, pictures, the live page.

Who may change something decides what the daemon opens and writes: a ``source`` is whatever FFmpeg opens, a local file
or an address in the local network too, and ``record.dir`` is any folder that the daemon's user may write to. So with
``http.token`` every change needs the token; without one, on loopback, every user of this machine may make changes, and
recordings cannot be asked for. A page of another origin can do nothing, whatever the browser sends along.
"""

from daemon.api.server import Api as Api

"""How the threads of the math libraries wait for work."""

import os


def sleep_while_idle() -> None:
    """Let them sleep instead of spin; what the user has set wins. Has to come before torch is imported.

    Spinning threads take the cores away from the reader, the writer and other programs: on two busy cores the
    embedded models ran at 0.3 FPS instead of 19.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

"""The hub of published weights: whether it can be reached, and the advice for a machine without a network."""

from huggingface_hub import constants, get_session

_TIMEOUT = 5  # seconds for one request; the hub's own client retries for half a minute


def reachable() -> bool:
    """Whether the hub answers now; False where HF_HUB_OFFLINE is set."""
    try:
        get_session().head(constants.ENDPOINT, timeout=_TIMEOUT)
    except Exception:  # errors of the hub's client, of httpx and of the system
        return False
    return True


def copy_from_elsewhere(role: str, name: str) -> str:
    """An error text, one line, for a model that is not on this machine and cannot be downloaded.

    It says what to copy where. ``role``: detector or segmenter.
    """
    return (
        f"{role} {name} is not on this machine, and the hub cannot be reached: where there is a network run "
        f"`maskcast models fetch --{role} {name} --to weights`, copy the folder weights here, and put the lines that "
        "it prints into the configuration"
    )

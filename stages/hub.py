"""The hub of published weights: whether it can be reached, and what to do on a machine where it cannot."""

from huggingface_hub import constants, get_session

_SECONDS = 5  # for one request; the hub's own client goes on trying for half a minute


def reachable() -> bool:
    """Whether the hub answers now; False where HF_HUB_OFFLINE is set."""
    try:
        get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception:  # its client's, httpx' and the system's errors
        return False
    return True


def copy_from_elsewhere(role: str, name: str) -> str:
    """One line for a model that is neither here nor to be had: what to copy where. ``role``: detector, segmenter."""
    return (
        f"{role} {name} is not on this machine, and the hub cannot be reached: where there is a network run "
        f"`maskcast models fetch --{role} {name} --to weights`, copy the folder weights here, and put the lines that "
        "it prints into the configuration"
    )

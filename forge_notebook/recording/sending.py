"""The uplink as a session has it: started beside the training, waited for at its end."""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

log = logging.getLogger(__name__)

WAIT_S = 5.0
_still_sending: list[subprocess.Popen[bytes]] = []  # collected, it would complain of running


def send_beside(folder: Path, url: str | None, token: str | None) -> subprocess.Popen[bytes] | None:
    """Send the session's log in a process of its own, where there is somewhere to send it to.

    Raises ValueError where ``url`` is no address.
    """
    if not (url or os.environ.get("FORGE_URL") or os.environ.get("KERNEL_FORGE_URL")):
        return None
    from forge_notebook.recording import uplink  # here: HTTP takes 40 ms to import

    server = uplink.target(url, token)
    return None if server is None else uplink.start(folder, server)


def wait_for(process: subprocess.Popen[bytes], session_id: str) -> None:
    """Where a job's end kills its processes, the last rows would not be sent."""
    try:
        process.wait(WAIT_S)
    except subprocess.TimeoutExpired:
        log.warning("%s is still being sent; later: forge-notebook push %s", session_id, session_id)
        _still_sending.append(process)

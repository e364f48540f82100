"""The hot path: writing a session's run log from any training loop. Imports core only."""

from forge_notebook.recording.commands import Command
from forge_notebook.recording.session import Session

__all__ = ["Command", "Session"]

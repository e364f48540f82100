"""Where ipykernel delivers what a page sends to a widget.

ipykernel 7.4 hands a page's message on a comm to the subshell whose request the kernel last
published under on that comm, wherever the page sent it. JupyterLab fetches the state of the
widgets on a subshell of its own after a reload, then deletes that, and from there on every message
of the page is answered ``UnknownSubshellError`` (measured: in three of four reloads). While a
cell blocks, the same rule holds messages back that the page sent to a subshell that is free.
"""

from __future__ import annotations


def deliver_where_sent(comm: object) -> None:
    """Deliver a page's messages on this comm to the subshell that the page names.

    As ipykernel 7.0 to 7.3 does for every comm. Asks of the widget that its handlers may run on
    any thread. Does nothing where ipykernel has no such rule.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, sent_to: sent_to

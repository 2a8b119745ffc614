"""Tells systemd how the manager is: ready, stopping, alive; without systemd (no NOTIFY_SOCKET) it does nothing.

The protocol is one datagram of `NAME=value` lines, see sd_notify(3); nothing is answered.
"""

import asyncio
import contextlib
import os
import socket

READY, STOPPING = "READY=1", "STOPPING=1"


def notify(*lines: str) -> None:
    """Send the lines to whoever supervises this process; that nobody takes them is no reason to fail."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.setblocking(False)
        # A leading @ stands for the zero byte of an abstract socket's name.
        sender.sendto("\n".join(lines).encode(), f"\0{address[1:]}" if address[0] == "@" else address)


async def keep_alive() -> None:
    """Show twice per WatchdogSec that the event loop turns; returns at once when nobody watches."""
    watched = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    interval_us = int(os.environ.get("WATCHDOG_USEC") or 0) if watched else 0
    while interval_us:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_us / 2e6)

"""Ports for servers of tests."""

import socket


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]

"""Addresses to listen on: which are safe without a password, and which ports are free."""

import ipaddress
import os
import socket

from editcollapse.errors import EditCollapseError

LOOPBACK = "127.0.0.1"
PASSWORD = "PREFECT_SERVER_API_AUTH_STRING"
"""Prefect's own variable for a server's password."""


class ServeError(EditCollapseError, RuntimeError):
    """The server cannot be started as asked, or has ended."""


def check_host(host: str) -> None:
    """Raise where others could reach a server that knows no password."""
    try:
        alone = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        alone = False
    if not alone and not os.environ.get(PASSWORD):
        raise ServeError(
            f"--host {host} lets everyone who reaches this machine run code on it: a Prefect "
            f"server without a password takes any flow. Set {PASSWORD}=user:password for the "
            "server and PREFECT_API_AUTH_STRING=user:password wherever flows run, or leave "
            f"--host at {LOOPBACK}."
        )


def check_port(host: str, port: int) -> None:
    """Raise where a port is taken or the address is not this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ServeError(
                f"cannot listen on {host}, port {port}: {error}. Choose another with --port (the "
                "reports take the one after it), or stop the program that has it."
            ) from error


def reachable(host: str) -> str:
    """Return the address at which this machine reaches the server itself."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104  compared, not bound
        return LOOPBACK
    return f"[{host}]" if ":" in host else host

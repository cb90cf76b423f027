"""Which addresses may be connected to on behalf of somebody who does not own this machine.

Whoever uses the terminal may connect to whatever the machine can. A user of the Studio gives addresses
too (connections, sources, webhooks, mail servers), and must not reach through them what only this machine
sees: itself, its private network, a cloud's metadata. So the Studio, and the processes that it starts,
resolve a name once, judge the address that it stands for, and connect to that address and no other.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson

from rewarm.core.errors import Forbidden, UserError
from rewarm.core.manifest import to_json
from rewarm.core.storage import write_file
from rewarm.core.workspace import Workspace

GUARD = "REWARM_GUARD"
"""Variable of the environment: 1 in the Studio and in whatever it starts."""
WEB_PORTS = frozenset({80, 443})
MAIL_PORTS = frozenset({25, 465, 587})
MOST_RULES = 1000
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_RULE = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>\d{1,5}))?|(?P<bare>[^\[\]]+)")
_METADATA = ipaddress.ip_address("168.63.129.16")  # Azure's, and a public address by its number

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_guarded() -> bool:
    """Whether this process works for somebody who does not own the machine."""
    return os.environ.get(GUARD) == "1"


def guarded_environment() -> dict[str, str]:
    """This process's environment, for one that is started for a user of the Studio."""
    return {**os.environ, GUARD: "1"}


@contextlib.contextmanager
def guarded(workspace: Workspace) -> Iterator[None]:
    """While this lasts, this process and those that it starts are guarded, and work in ``workspace``."""
    now = {GUARD: "1", "REWARM_HOME": str(workspace.root)}
    before = {name: os.environ.get(name) for name in now}
    os.environ.update(now)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class Rule:
    """What an administrator allows: a host or a network, at one port, or at the usual ones."""

    host: str | None
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Rule:
        """``minio.example``, ``minio.example:9000``, ``10.1.0.0/16``, ``10.1.0.7:9000``, ``[fd00::/8]:9000``.

        Raises:
            UserError: if it is none of these.
        """
        if found := _RULE.fullmatch(text):
            name = (found["six"] or found["host"] or found["bare"]).lower().removesuffix(".")
            port = int(found["port"]) if found["port"] else None
            if port is None or 0 < port < 65536:
                with contextlib.suppress(ValueError):
                    return cls(None, ipaddress.ip_network(name), port)
                if found["host"] and _HOST.fullmatch(name) and not re.fullmatch(r"[\d.]+", name):
                    return cls(name, None, port)
        remedy = "write minio.example:9000, 10.1.0.0/16 or [fd00::1]:9000"
        raise UserError("is neither a host nor a network, with or without a port", where=text[:100], remedy=remedy)

    def allows(self, host: str, address: Address, port: int, usual: frozenset[int]) -> bool:
        if not (port in usual if self.port is None else port == self.port):
            return False
        return host == self.host if self.network is None else address in self.network


def allowed(workspace: Workspace) -> list[str]:
    """What the administrator allows beyond the public internet, as it was written.

    Raises:
        UserError: if the file is damaged.
    """
    path = workspace.root / "network.json"
    try:
        value = orjson.loads(path.read_bytes())
        return [str(entry) for entry in value["allow"]]
    except FileNotFoundError:
        return []
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise UserError("this file is damaged", where=path, remedy='{"allow": ["minio.example:9000"]}') from None


def allow(workspace: Workspace, entries: Sequence[str]) -> list[str]:
    """Replace what is allowed. Raises ``UserError`` where an entry is none, or there are too many."""
    if len(entries) > MOST_RULES:
        raise UserError(f"more than {MOST_RULES} entries", remedy="allow networks instead of single addresses")
    kept = sorted({entry.strip() for entry in entries if Rule.parse(entry.strip())})
    write_file(workspace.root / "network.json", to_json({"allow": kept}))
    return kept


def check_address(host: str, port: int, usual: frozenset[int] = WEB_PORTS) -> str:
    """The address to connect to for ``host``, which was resolved here and must not be resolved again.

    Args:
        usual: ports that public hosts may be reached at.

    Raises:
        Forbidden: if all that it stands for are inner addresses, or the port is an unusual one, and the
            administrator does not allow it.
        OSError: if no host has that name.
    """
    rules = [Rule.parse(entry) for entry in allowed(Workspace.default())]
    name = host.strip("[]").lower().removesuffix(".")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (UnicodeError, ValueError):
        found = []
    for *_, where in found:
        address = ipaddress.ip_address(str(where[0]))
        known = any(rule.allows(name, _plain(address), port, usual) for rule in rules)
        if known or (port in usual and _is_public(_plain(address))):
            return str(where[0])
    raise Forbidden(
        "the Studio does not connect to this host and port: they lie inside, or are unusual",
        where=f"{host}:{port}",
        remedy="an administrator can allow them, under network",
    )


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address.sixtofour or address
    return address


def _is_public(address: Address) -> bool:
    inner = address.is_multicast or address.is_reserved or getattr(address, "is_site_local", False)
    return address.is_global and not inner and address != _METADATA

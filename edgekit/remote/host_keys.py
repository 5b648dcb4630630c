"""Is this the device it says it is? Its own key against known_hosts or a pinned fingerprint; nothing is ever added."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import EdgekitError
from edgekit.fleet import Device

if TYPE_CHECKING:
    import asyncssh

# Kinds of host keys -> the names by which they are asked for.
KINDS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa": ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
USUAL = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


class HostKeyRefused(EdgekitError):
    """The device's own key is not known, or not the one that is known. Never retried."""


class HostKeys:
    """Which keys are trusted for one device, and which were met while connecting."""

    def __init__(self, device: Device, configured: Any) -> None:
        """configured: UserKnownHostsFile and GlobalKnownHostsFile of ~/.ssh/config, as asyncssh reads them. `none` there turns
        checking off in asyncssh; here it means that nothing is known."""
        import asyncssh

        self._device = device
        listed = [str(p) for p in configured] if isinstance(configured, list) else []
        usual = [] if configured is None else [p for p in USUAL if _readable(p)]
        self._files = listed or usual
        self.expected: list[str] = []  # fingerprints that known_hosts has for the host
        self._revoked: list[str] = []
        self.found: list[tuple[str, str]] = []  # (kind, fingerprint)
        self._place = ("", 0)  # host and port that were connected to: ~/.ssh/config may name others than the address
        try:
            self._known = asyncssh.read_known_hosts([str(Path(p).expanduser()) for p in self._files])
        except (OSError, ValueError) as error:
            raise HostKeyRefused(f"{' or '.join(self._files)} cannot be read: {error}; mend it, or pin host_key in the fleet file") from None

    def trusted(self, host: str, addr: str, port: int | None) -> Any:
        """Keys, certificate authorities and revoked keys of known_hosts for this host; none where a fingerprint is pinned."""
        self._place = host, port or 22
        if self._device.host_key:
            return (), (), ()
        keys, authorities, revoked = self._known.match(host, addr, port)[:3]
        self.expected, self._revoked = ([k.get_fingerprint() for k in some] for some in (keys, revoked))
        return keys, authorities, revoked

    def other_kinds(self) -> list[tuple[str, ...]]:
        """What else to ask the device for: a pinned key among its other kinds; else any, to learn what it has."""
        met = {kind for kind, _ in self.found}
        if self._device.host_key:
            return [names for kind, names in KINDS.items() if not any(m.startswith(kind) for m in met)]
        return [] if met else [tuple(name for names in KINDS.values() for name in names)]

    def nothing(self, host: str, addr: str, port: int | None) -> Any:
        """No key is trusted: to learn which one the device has."""
        return (), (), ()

    def client(self) -> asyncssh.SSHClient:
        """What asyncssh asks about a key that is not trusted."""
        import asyncssh

        keys = self

        class Client(asyncssh.SSHClient):
            def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
                return keys.accepts(key.get_algorithm(), key.get_fingerprint())

        return Client()

    def accepts(self, kind: str, fingerprint: str) -> bool:
        """Whether it is the pinned one; remembered for refusal()."""
        if (kind, fingerprint) not in self.found:
            self.found.append((kind, fingerprint))
        return bool(self._device.host_key) and fingerprint == self._device.host_key

    def refusal(self) -> str:
        """Why, with the fingerprint found, and what a person does who has checked it."""
        kind, fingerprint = self.found[-1] if self.found else ("", "that it did not show")
        met = " and ".join(f"{f} ({k})" for k, f in self.found) or fingerprint
        host, port = self._place
        place = f"[{host}]:{port}" if port != 22 else host
        # The file's name of a kind: ssh-ed25519 -> ed25519, ecdsa-sha2-nistp256 -> ecdsa.
        short = kind.removeprefix("ssh-").partition("-")[0]
        scan = f"ssh-keyscan{f' -t {short}' if short else ''}{f' -p {port}' if port != 22 else ''} {host} >> ~/.ssh/known_hosts"
        compare = f"compare it with `ssh-keygen -lf /etc/ssh/ssh_host_{short or '*'}_key.pub` on the device"
        if fingerprint in self._revoked:
            return f"{self._device.shown} has the host key {met}, which {' or '.join(self._files)} says is revoked: do not connect to it"
        if self._device.host_key:
            return (
                f"{self._device.shown} has the host key {met}, but {self._device.host_key} is pinned: either it was set up anew or "
                f"it is another machine; {compare}, and only if it is the same, write that into host_key"
            )
        if self.expected:
            known = f"{' or '.join(self._files)} knows it by {' and '.join(self.expected)}"
            forget = f"ssh-keygen -f {self._files[0]} -R '{place}'"
            return (
                f"{self._device.shown} has the host key {met}, but {known}: either it was set up anew or it is another "
                f"machine; {compare}, and only if it is the same: {forget} && {scan}"
            )
        where = f"that is not in {' or '.join(self._files)}" if self._files else "and there is no known_hosts to look it up in"
        return (
            f"{self._device.shown} has the host key {met}, {where}; {compare}, and if it is the same: {scan} "
            f"(or pin it in the fleet file: host_key = \"{fingerprint}\")"
        )


def _readable(path: str) -> bool:
    try:
        with Path(path).expanduser().open("rb"):
            return True
    except OSError:
        return False

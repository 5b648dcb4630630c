"""Where a device is, whether it is the one it says it is, and commands that reach it as they were meant."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import ssh_server
from hypothesis import given, settings
from hypothesis import strategies as st
from ssh_server import Server

from edgekit import fleet
from edgekit.errors import EdgekitError
from edgekit.fleet import Address, Device
from edgekit.remote import ssh
from edgekit.remote.host_keys import HostKeyRefused
from edgekit.remote.ssh import Dropped, TimedOut, Unreachable

HOSTILE = ["a b", "-rf", "--", "$(touch pwned)", "`touch pwned`", "'", '"', "\\", "\n", "a\nb\t", "*", "~", "; touch pwned #", "", "ünï/cödé", "!!", "%s\\n", "&"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This side's home is a folder of the test: nobody's own ~/.ssh is read."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    return tmp_path / "home"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = ssh_server.start(tmp_path_factory.mktemp("fleet") / "board")
    yield made
    made.stop()


def said(device: Device, script: str, *words: str, limit_s: float = 20) -> str:
    async def work() -> str:
        async with ssh.connect(device) as shell:
            return (await shell.run(script, *words, limit_s=limit_s)).text

    return asyncio.run(work())


def knows(home: Path, line: str) -> Path:
    (home / ".ssh" / "known_hosts").write_text(line)
    return home / ".ssh" / "known_hosts"


def test_an_unknown_key_is_refused_and_the_command_that_is_told_makes_it_known(server: Server, home: Path) -> None:
    device = server.device(host_key="")
    with pytest.raises(HostKeyRefused) as refused:
        said(device, "echo in")
    assert refused.value.exit_code == 2 and server.fingerprint in str(refused.value) and "\n" not in str(refused.value)
    assert not list((home / ".ssh").iterdir()), "a key was added silently"
    command = str(refused.value).partition("if it is the same: ")[2].partition(" (or pin")[0]
    assert command == f"ssh-keyscan -t ed25519 -p {server.port} 127.0.0.1 >> ~/.ssh/known_hosts"
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert said(device, "echo in") == "in\n"


def test_a_changed_key_is_refused_with_the_old_and_the_new_fingerprint(server: Server, home: Path, tmp_path: Path) -> None:
    ssh_server.new_key(tmp_path / "old")
    kind, key, _ = (tmp_path / "old.pub").read_text().split()
    file = knows(home, f"[127.0.0.1]:{server.port} {kind} {key}\n")
    before = file.read_bytes()
    with pytest.raises(HostKeyRefused, match="either it was set up anew or it is another machine") as refused:
        said(server.device(host_key=""), "echo in")
    assert ssh_server.fingerprint(tmp_path / "old.pub") in str(refused.value) and server.fingerprint in str(refused.value)
    assert file.read_bytes() == before
    command = str(refused.value).partition("only if it is the same: ")[2]
    subprocess.run(command, shell=True, check=True, capture_output=True)
    assert said(server.device(host_key=""), "echo in") == "in\n"


def test_a_key_of_another_kind_than_known_is_refused_by_name(server: Server, home: Path, tmp_path: Path) -> None:
    """The server has no key of that kind to show: the connection ends before one is seen, and it is asked for what it has."""
    ssh_server.new_key(tmp_path / "old", "ecdsa")
    kind, key, _ = (tmp_path / "old.pub").read_text().split()
    knows(home, f"[127.0.0.1]:{server.port} {kind} {key}\n")
    with pytest.raises(HostKeyRefused) as refused:
        said(server.device(host_key=""), "echo in")
    assert server.fingerprint in str(refused.value) and ssh_server.fingerprint(tmp_path / "old.pub") in str(refused.value)


def test_a_revoked_key_is_refused(server: Server, home: Path) -> None:
    kind, key, _ = server.public.split()
    knows(home, f"[127.0.0.1]:{server.port} {kind} {key}\n@revoked * {kind} {key}\n")
    with pytest.raises(HostKeyRefused, match="says is revoked: do not connect to it"):
        said(server.device(host_key=""), "echo in")


def test_a_pinned_fingerprint_is_enough_and_another_is_refused(server: Server, home: Path) -> None:
    kind, key, _ = server.public.split()
    assert said(server.device(), "echo in") == "in\n"
    knows(home, f"[127.0.0.1]:{server.port} {kind} {key}\n")
    with pytest.raises(HostKeyRefused, match="is pinned") as refused:  # though known_hosts would let it pass
        said(server.device(host_key="SHA256:" + "A" * 43), "echo in")
    assert server.fingerprint in str(refused.value)


def test_a_pinned_key_of_a_kind_that_the_server_likes_less_is_found(tmp_path: Path) -> None:
    made = ssh_server.start(tmp_path / "two", more_host_keys=("rsa",))
    try:
        for kind in ("host_key", "host_key_rsa"):
            assert said(made.device(host_key=ssh_server.fingerprint(made.folder / f"{kind}.pub")), "echo in") == "in\n"
    finally:
        made.stop()


@pytest.mark.parametrize("line", ["UserKnownHostsFile none", "UserKnownHostsFile /dev/null", "StrictHostKeyChecking no"])
def test_the_users_settings_do_not_switch_the_check_off(server: Server, home: Path, line: str) -> None:
    (home / ".ssh" / "config").write_text(f"Host *\n  {line}\n")
    with pytest.raises(HostKeyRefused):
        said(server.device(host_key=""), "echo in")


def test_a_known_hosts_that_cannot_be_read_is_said(server: Server, home: Path) -> None:
    file = knows(home, "nonsense\n")
    with pytest.raises(HostKeyRefused, match="cannot be read: Invalid known hosts entry"):
        said(server.device(host_key=""), "echo in")
    assert file.read_text() == "nonsense\n"


def test_the_users_own_settings_are_used(server: Server, home: Path, tmp_path: Path) -> None:
    """The name of a Host, with its address, port, user, key, and file of known hosts."""
    kind, key, _ = server.public.split()
    (tmp_path / "my hosts").write_text(f"[127.0.0.1]:{server.port} {kind} {key}\n")
    (home / ".ssh" / "config").write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {server.port}\n  User {getpass.getuser()}\n  IdentityFile {server.folder}/user_key\n"
        f'  UserKnownHostsFile "{tmp_path}/my hosts"\n'
    )
    assert said(Device("board", ssh="ssh://board"), "echo in") == "in\n"


def test_a_device_behind_another_is_reached_through_it(server: Server, home: Path, tmp_path: Path) -> None:
    gate = ssh_server.start(tmp_path / "gate")
    try:
        kind, key, _ = gate.public.split()
        knows(home, f"[127.0.0.1]:{gate.port} {kind} {key}\n")
        (home / ".ssh" / "config").write_text(
            f"Host gate\n  HostName 127.0.0.1\n  Port {gate.port}\n  IdentityFile {gate.folder}/user_key\nHost 127.0.0.1\n  ProxyJump gate\n"
        )
        assert said(server.device(), "echo in") == "in\n"
        assert f"Accepted publickey for {getpass.getuser()}" in (gate.folder / "log").read_text()
        (home / ".ssh" / "known_hosts").unlink()
        with pytest.raises(EdgekitError):
            said(server.device(), "echo in")
    finally:
        gate.stop()


def test_a_login_that_is_refused_is_unreachable(server: Server, tmp_path: Path) -> None:
    ssh_server.new_key(tmp_path / "stranger")
    with pytest.raises(Unreachable, match=f"lets nobody in as {getpass.getuser()}.*: ssh-copy-id -p {server.port} "):
        said(server.device(key=str(tmp_path / "stranger")), "echo in")


def test_a_key_that_cannot_be_used_is_said(server: Server, tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="there is no key file"):
        said(server.device(key=str(tmp_path / "none")), "echo in")
    (tmp_path / "text").write_text("no key")
    with pytest.raises(EdgekitError, match="cannot be used"):
        said(server.device(key=str(tmp_path / "text")), "echo in")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(tmp_path / "locked")], check=True)
    with pytest.raises(EdgekitError, match="goes through the agent: ssh-add"):
        said(server.device(key=str(tmp_path / "locked")), "echo in")


def test_nobody_there_is_unreachable(server: Server) -> None:
    port = 1 if server.port != 1 else 2
    with pytest.raises(Unreachable, match="no connection to board .ssh://127.0.0.1:1.: Connection refused"):
        said(server.device(ssh=f"ssh://127.0.0.1:{port}"), "echo in")
    with pytest.raises(Unreachable, match="no connection to board .ssh://nowhere.invalid.: "):
        said(server.device(ssh="ssh://nowhere.invalid"), "echo in")


def test_hostile_words_arrive_as_they_are(server: Server) -> None:
    found = said(server.device(), 'cd; for word in "$@"; do printf "%s\\0" "$word"; done', *HOSTILE)
    assert found.split("\0")[:-1] == HOSTILE
    assert not (server.home / "pwned").exists()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12), max_size=4))
def test_any_words_are_read_back_by_a_shell(words: list[str]) -> None:
    line = ssh.quoted(["printf", "%s\\0", "first", *words])
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == ["first", *words]


def test_a_word_with_a_nul_is_refused() -> None:
    with pytest.raises(EdgekitError, match="no command can hold a NUL"):
        ssh.quoted(["a\0b"])


def test_a_command_that_takes_too_long_is_stopped_on_the_device_with_its_group(server: Server) -> None:
    with pytest.raises(TimedOut, match="took more than 1 s and was stopped there"):
        said(server.device(), "sleep 98765 & sleep 98765", limit_s=1)
    assert "98765" not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout


def test_a_connection_that_is_cut_is_dropped(server: Server) -> None:
    async def work() -> None:
        async with ssh.connect(server.device()) as shell:
            asyncio.get_running_loop().call_later(0.3, server.cut)
            await shell.run("sleep 5", limit_s=20)

    with pytest.raises(Dropped, match="the connection to board was lost"):
        asyncio.run(work())


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://me@board", Address("board", "me")),
        ("ssh://board", Address("board")),
        ("ssh://me@192.168.1.7:2222", Address("192.168.1.7", "me", 2222)),
        ("ssh://me@[fe80::1]:22", Address("fe80::1", "me", 22)),
        ("ssh://me@board/", Address("board", "me")),
        ("ssh://me@company@jump.example.org", Address("jump.example.org", "me@company")),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert fleet.parse(text) == address
    assert fleet.parse(address.shown) == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("me@board", "an address is ssh://"),
        ("http://board", "an address is ssh://"),
        ("ssh://", "an address is ssh://"),
        ("ssh://@board", "an address is ssh://"),
        ("ssh://me@board:port", "an address is ssh://"),
        ("ssh://me@board:0", "a port is a number from 1 to 65535"),
        ("ssh://me@board:65536", "a port is a number from 1 to 65535"),
        ("ssh://me@board/path", "an address is ssh://"),
        ("ssh://-oProxyCommand=x", "an address is ssh://"),
        ("ssh://me@-x", "an address is ssh://"),
        ("ssh://a b@board", "an address is ssh://"),
        ("ssh://fe80::1", "an address is ssh://"),
    ],
)
def test_what_is_no_address_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        fleet.parse(text)
    assert text in str(refused.value)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(EdgekitError, match="a password in an address would be stored") as refused:
        fleet.find("ssh://me:secret@board")
    assert "secret" not in str(refused.value)


FLEET = """
[[devices]]
name = "nano"
target = "jetson_orin_nano"
ssh = "ssh://me@nano"
host_key = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
[[devices]]
name = "here"
"""


def test_a_fleet_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET)
    nano, here = fleet.read(tmp_path / "fleet.toml")
    assert nano.address == Address("nano", "me") and here.address is None
    assert fleet.find("nano", tmp_path / "fleet.toml", "rpi5").target == "rpi5"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FLEET.replace("host_key", "hostkey"), r"devices\[0\]: unknown key 'hostkey' \(did you mean 'host_key'\?\)"),
        (FLEET.replace('"here"', '"nano"'), "each device has a name of its own, found nano more than once"),
        (FLEET.replace("SHA256:A", "MD5:A"), "host_key is a fingerprint as `ssh-keygen -lf` prints it"),
        (FLEET.replace("ssh://me@nano", "nano"), "an address is ssh://"),
        ("devices = 3", "tables, found 3"),
        ("[device]\nname = 'x'", "nothing else, found device"),
        ("x = ", "is not a TOML file of devices"),
        ('[[devices]]\nname = "x"\nkey = "k"', "has no ssh address, so it is this machine"),
        ('[[devices]]\nname = "x"\nssh = "ssh://x"\nwork_dir = "tmp"', "a path on the device that begins with /"),
        ('[[devices]]\nname = "x"\nlimit_s = 0', "limit_s is more than 0"),
    ],
)
def test_a_fleet_file_with_a_mistake_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "fleet.toml").write_text(text)
    with pytest.raises(EdgekitError, match=says) as refused:
        fleet.read(tmp_path / "fleet.toml")
    assert str(refused.value).startswith(str(tmp_path / "fleet.toml"))


def test_a_device_that_is_not_in_the_fleet_is_said(tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="say which file: --fleet"):
        fleet.find("nano")
    with pytest.raises(EdgekitError, match="no fleet file at"):
        fleet.find("nano", tmp_path / "none.toml")
    (tmp_path / "fleet.toml").write_text(FLEET)
    with pytest.raises(EdgekitError, match="no device 'nono'; there are: here, nano"):
        fleet.find("nono", tmp_path / "fleet.toml")


@pytest.mark.skipif(not shutil.which("ssh-agent"), reason="no ssh-agent here: apt-get install openssh-client")
def test_the_agent_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        while subprocess.run(["ssh-add", str(server.folder / "user_key")], capture_output=True, env={**os.environ}, check=False).returncode == 2:
            pass
        assert said(server.device(key=""), "echo in") == "in\n"
    finally:
        agent.terminate()
        agent.wait(10)

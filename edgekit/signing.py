"""Signed bundles: a file of OpenSSF model-signing beside the bundle, made and checked by that library, then held to the manifest.

The library alone lets files hide that it was told to ignore (.git and what the signer named). What is opened here is a bundle, which has
exactly the files of its manifest, and the signature must list exactly these and the manifest itself.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import files, limits, signing_keys
from edgekit.bundle import EVIDENCE, MANIFEST, Bundle, open_bundle
from edgekit.errors import Broken, EdgekitError, Missing
from edgekit.plain_text import shown
from edgekit.signature_file import Statement, read_statement
from edgekit.signing_keys import PublicKey
from edgekit.sniff import read_plain

SUFFIX = ".sig"
NEEDS = ("model_signing", "OpenSSL", "cryptography")  # model-signing imports pyOpenSSL without saying so in its requirements


@dataclass(frozen=True)
class Signed:
    """An opened bundle whose signature fits, and the key that made it."""

    bundle: Bundle
    signature: Path
    key: PublicKey

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; `digest` is what edgekit-run --digest takes."""
        return {"bundle": str(self.bundle.folder), "signature": str(self.signature), "digest": self.bundle.sha256,
                "key_sha256": self.key.sha256, "curve": self.key.curve}  # fmt: skip


def signature_of(folder: Path) -> Path:
    """Where the signature of a bundle lies unless something else is said: beside it, since a bundle holds its own files only."""
    whole = folder.resolve() if folder.name in ("", "..") else folder
    return whole.with_name(f"{whole.name}{SUFFIX}")


def sign(folder: Path, private_key: Path, out: Path | None = None, password: str | None = None) -> Signed:
    """Sign a whole bundle; EdgekitError for keys that cannot, or a folder that holds more than its manifest lists."""
    _require_library()
    bundle = open_bundle(folder)
    key = signing_keys.read_private(private_key, password)
    place = out or signature_of(folder)
    if place.absolute().resolve().is_relative_to(folder.absolute().resolve()):
        raise EdgekitError(f"{place} would lie in the bundle, which holds its own files only; write the signature beside it")
    with _work() as work:
        from model_signing import hashing, signing

        ignored = [EVIDENCE, *(f"{name}/{EVIDENCE}" for name in bundle.manifest.prepares)]
        config = signing.Config().set_hashing_config(hashing.Config().set_ignored_paths(paths=ignored, ignore_git_paths=False))
        secret: Any = password.encode() if password else None  # the library hands it on to one that takes bytes
        config.use_elliptic_key_signer(private_key=private_key, password=secret).sign(folder, work / "made")
        raw = (work / "made").read_bytes()
    said = read_statement(raw, str(place))
    _require_same(said, bundle, place)
    _check_by_library(folder, raw, said, key, place)
    files.write_bytes(place, raw)
    return Signed(bundle, place, key)


def open_signed(folder: Path, public_key: Path, signature: Path | None = None) -> Signed:
    """open_bundle, after its signature was found to be by this key and over exactly its files; EdgekitError or Broken where it is not."""
    _require_library()
    if not (folder / MANIFEST).is_file():
        raise EdgekitError(f"no bundle in {folder}: it has no {MANIFEST}")
    key = signing_keys.read_public(public_key)
    place = signature or signature_of(folder)
    if not place.exists():
        raise EdgekitError(f"{folder} is not signed: there is no {place}; get it from whoever made the bundle, or sign it: `edgekit sign`")
    raw = read_plain(place, limits.MOST_SIGNATURE_BYTES, "a signature")
    said = read_statement(raw, str(place))
    if said.key_sha256 != key.sha256:
        raise EdgekitError(f"{place} was made with another key ({said.key_sha256[:16]}...) than that of {public_key} ({key.sha256[:16]}...)")
    _check_by_library(folder, raw, said, key, place)
    bundle = open_bundle(folder)
    _require_same(said, bundle, place)
    return Signed(bundle, place, key)


def _check_by_library(folder: Path, raw: bytes, said: Statement, key: PublicKey, place: Path) -> None:
    """Have model-signing check the signature and the hash of every signed file; it gets the very bytes that were read here."""
    with _work() as work:
        from cryptography.exceptions import InvalidSignature
        from model_signing import verifying

        (work / "signature").write_bytes(raw)
        (work / "public.pem").write_bytes(key.pem)
        # Files that are not signed are found by open_bundle, which needs no list of what to ignore.
        config = verifying.Config().use_elliptic_key_verifier(public_key=work / "public.pem").set_ignore_unsigned_files(True)
        try:
            config.verify(folder, work / "signature")
        except InvalidSignature:
            raise Broken(f"{place} was changed, or is a forgery: it names the key and is not by it; do not use {folder}") from None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError) as error:
            raise Broken(_difference(folder, said.files) or f"{place} is no signature of {folder} ({shown(error)})") from None


def _difference(folder: Path, signed: Mapping[str, str]) -> str:
    """Which signed file is missing or another one; empty when none is."""
    for name, sha256 in signed.items():
        path = folder / name
        if not path.is_file() or path.is_symlink():
            return f"{folder} is not what was signed: the file '{shown(name)}' is missing; get the bundle again"
        if files.sha256_of(path) != sha256:
            return f"{folder} is not what was signed: the file '{shown(name)}' was changed, or the signature is of another bundle; get both again"
    return ""


def _require_same(said: Statement, bundle: Bundle, place: Path) -> None:
    wanted = {MANIFEST: bundle.sha256, **bundle.manifest.files}
    odd = sorted({name for name, _ in set(said.files.items()) ^ set(wanted.items())})
    if odd:
        raise Broken(f"{place} does not sign the same files that {bundle.folder} holds: {shown(', '.join(odd))}; sign the bundle alone, and whole")


def _require_library() -> None:
    absent = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if absent:
        raise Missing(f"signatures need {', '.join(absent)}, not installed here: pip install 'edgekit[sign]'")


@contextlib.contextmanager
def _work() -> Iterator[Path]:
    """A folder of this process alone; what the library prints (a warning, on stdout) is not part of the answer."""
    with tempfile.TemporaryDirectory(prefix="edgekit-sign-") as work, contextlib.redirect_stdout(io.StringIO()):
        yield Path(work)

"""Keys for signatures: PEM files of elliptic curves, looked at before the library that signs takes them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import limits
from edgekit.errors import Broken, EdgekitError
from edgekit.sniff import read_plain

CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}  # those of model-signing, which are those of sigstore
MAKE = "make one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem"
DERIVE = "the public one of a private one: openssl pkey -in private.pem -pubout -out public.pem"
PASSWORD = "EDGEKIT_KEY_PASSWORD"
NEEDS_PASSWORD = f"encrypted; set {PASSWORD} to its password, or run this in a terminal, which asks for it"
BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,60})-----")


@dataclass(frozen=True)
class PublicKey:
    """A public key as model-signing names it."""

    pem: bytes
    curve: str  # "P-256"

    @property
    def sha256(self) -> str:
        """Of the PEM text: what signatures call the key that made them."""
        return hashlib.sha256(self.pem).hexdigest()


def read_public(path: Path) -> PublicKey:
    """The public key in a PEM file; EdgekitError for anything else."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    raw, kinds = _blocks(path)
    if any("PRIVATE KEY" in k for k in kinds):
        raise EdgekitError(f"{path} holds a private key, which nobody but its owner should have; give the public one; {DERIVE}")
    if "CERTIFICATE" in kinds:
        raise EdgekitError(f"{path} is a certificate; give the public key in it: openssl x509 -in {path} -pubkey -noout")
    try:
        key = load_pem_public_key(raw)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Broken(f"{path} is no public key in PEM ({_first(error)}); {DERIVE}") from None
    return _public(key, path)


def read_private(path: Path, password: str | None) -> PublicKey:
    """The public half of the private key in a PEM file; EdgekitError where it cannot sign. password: of an encrypted file."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    raw, kinds = _blocks(path)
    if not any("PRIVATE KEY" in k for k in kinds):
        raise EdgekitError(f"{path} holds no private key but {', '.join(kinds).lower()}; sign with the private one, or {MAKE}")
    if "OPENSSH PRIVATE KEY" in kinds:
        raise EdgekitError(f"{path} is a key of OpenSSH, which model-signing does not read; {MAKE}")
    try:
        key = load_pem_private_key(raw, password.encode() if password else None)
    except TypeError:
        raise EdgekitError(f"{path} is {'not encrypted, but a password was given; leave it out' if password else NEEDS_PASSWORD}") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Broken(f"{path} cannot be read as a private key{', or the password is wrong' if password else ''} ({_first(error)}); {MAKE}") from None
    return _public(key.public_key() if hasattr(key, "public_key") else key, path)


def is_encrypted(path: Path) -> bool:
    """Whether a private key asks for a password, by what its PEM file says of itself."""
    raw, kinds = _blocks(path)
    return "ENCRYPTED PRIVATE KEY" in kinds or b"Proc-Type: 4,ENCRYPTED" in raw


def _blocks(path: Path) -> tuple[bytes, list[str]]:
    raw = read_plain(path, limits.MOST_KEY_BYTES, "a key")
    kinds = [m[1].decode() for m in BLOCK.finditer(raw)]
    if not kinds:
        raise EdgekitError(f"{path} is no PEM file, keys begin with -----BEGIN; {MAKE}")
    return raw, kinds


def _public(key: Any, path: Path) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        curve = isinstance(key, EllipticCurvePublicKey)
        kind = f"the curve {key.curve.name}" if curve else type(key).__name__.replace("PublicKey", "").replace("PrivateKey", "")
        raise EdgekitError(f"{path} is a key of {kind}, model-signing takes the curves {', '.join(CURVES.values())}; {MAKE}")
    return PublicKey(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), CURVES[key.curve.name])


def _first(error: Exception) -> str:
    return str(error).split("\n", maxsplit=1)[0].split(". ", maxsplit=1)[0][:120]

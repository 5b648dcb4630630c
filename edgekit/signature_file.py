"""The signature files of OpenSSF model-signing, read strictly: a sigstore bundle (v0.3) around a DSSE envelope around an in-toto statement."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from edgekit.errors import Broken, EdgekitError
from edgekit.plain_text import shown
from edgekit.text_file import parse_json

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
DO = "sign the bundle again: `edgekit sign`"


@dataclass(frozen=True)
class Statement:
    """What a signature file claims; nothing of it is proven yet."""

    key_sha256: str  # of the public key, as PEM
    files: Mapping[str, str]  # name -> SHA-256 of each file that was signed


def read_statement(raw: bytes, where: str) -> Statement:
    """What the bytes of a signature file claim; Broken, beginning with `where`, for anything but a signature by one key over SHA-256 of files."""
    data = parse_json(raw, where, DO)
    kind = _at(data, where, str, "mediaType")
    if kind != BUNDLE:
        raise Broken(f"{where}: is of the unknown format '{shown(kind)}', known is {BUNDLE}; {DO}")
    material = _at(data, where, dict, "verificationMaterial")
    if "publicKey" not in material:
        raise EdgekitError(
            f"{where}: was made with a certificate or without a key (sigstore), edgekit checks signatures by keys: check this one by "
            "`model_signing verify`"
        )
    hint = _at(material, where, str, "publicKey", "hint")
    if not SHA256.fullmatch(hint):
        raise Broken(f"{where}: does not say which key made it; {DO}")
    said = _at(data, where, str, "dsseEnvelope", "payloadType")
    signatures = _at(data, where, list, "dsseEnvelope", "signatures")
    if said != PAYLOAD or len(signatures) != 1:
        raise Broken(f"{where}: must hold one signature of '{PAYLOAD}', holds {len(signatures)} of '{shown(said)}'; {DO}")
    _decoded(_at(signatures[0], where, str, "sig"), where)
    payload = _decoded(_at(data, where, str, "dsseEnvelope", "payload"), where)
    return Statement(hint, _files(parse_json(payload, f"{where}: its statement", DO), where))


def _files(statement: Any, where: str) -> dict[str, str]:
    kinds = (_at(statement, where, str, "_type"), _at(statement, where, str, "predicateType"))
    if kinds != (STATEMENT, PREDICATE):
        raise Broken(f"{where}: says something else than model-signing 1 does ({shown(kinds[1])}); {DO}")
    how = _at(statement, where, dict, "predicate", "serialization")
    if how.get("method") != "files" or how.get("hash_type") != "sha256":
        raise EdgekitError(f"{where}: was made over {shown(how.get('hash_type'))} of {shown(how.get('method'))}, edgekit takes sha256 of files; {DO}")
    found: dict[str, str] = {}
    for entry in _at(statement, where, list, "predicate", "resources"):
        name, digest = _at(entry, where, str, "name"), _at(entry, where, str, "digest")
        if _at(entry, where, str, "algorithm") != "sha256" or not SHA256.fullmatch(digest) or name in found:
            raise Broken(f"{where}: says no SHA-256, or two, of the file '{shown(name)}'; {DO}")
        if not name or name != str(PurePosixPath(name)) or name.startswith("/") or ".." in PurePosixPath(name).parts:
            raise Broken(f"{where}: the file '{shown(name)}' would lie outside the bundle; {DO}")
        found[name] = digest
    return found


def _at(data: Any, where: str, kind: type, *path: str) -> Any:
    """The value of this kind under a path of keys."""
    value = data
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, kind):
        raise Broken(f"{where}: is no signature of model-signing, it has no '{'.'.join(path)}'; {DO}")
    return value


def _decoded(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Broken(f"{where}: is no signature of model-signing, its base64 is broken ({error}); {DO}") from None

"""Signed bundles: model-signing checks ours and we check model-signing's; whatever is changed, added, hidden or forged is one sentence."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_bundles
from click.testing import CliRunner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from edgekit import registry, signing
from edgekit.bundle import Bundle, open_bundle
from edgekit.cli import cli
from edgekit.embed import embed
from edgekit.errors import EdgekitError
from edgekit.parts import Runtime
from edgekit.program import Phase, Program, State, value
from edgekit.runtimes import _cpp_build, cpp
from edgekit.signature import Signature
from edgekit.signature_file import read_statement

pytest.importorskip("model_signing", reason="pip install 'edgekit[sign]'")
from model_signing import hashing, verifying  # noqa: E402
from model_signing import signing as library  # noqa: E402

PEM = serialization.Encoding.PEM


def key_pair(folder: Path, name: str, made: Any = None, password: bytes = b"") -> tuple[Path, Path]:
    """(private, public) as PEM files; of P-256 unless another key is given."""
    made = made or ec.generate_private_key(ec.SECP256R1())
    shield = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(made.private_bytes(PEM, serialization.PrivateFormat.PKCS8, shield))
    public.write_bytes(made.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def toy(folder: Path, factor: float = 0.5, **more: Any) -> Bundle:
    """u_next = factor u + x, once."""
    model, signature = toy_bundles.decay(2)
    program = Program((Phase("main", states={"u": State("float32", (2,))}, inputs={"x": value("x"), "u": value("u")}, outputs={"u_next": "y"}),))
    whole = Signature((signature.inputs[0],), (toy_bundles.tensor("y", 2),))
    golden = toy_bundles.Golden({"x": np.float32([1, factor])}, {"y": np.float32([1, factor])})
    return toy_bundles.bundle(folder, {"main": (model, signature)}, whole, program, golden=golden, **more)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a signed bundle `b`, its signature, the key and another key."""
    folder = tmp_path_factory.mktemp("signed")
    private, _ = key_pair(folder, "mine")
    key_pair(folder, "other")
    toy(folder / "b")
    signing.sign(folder / "b", private)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "p")
    return tmp_path / "p"


def refused(place: Path, says: str, public: str = "mine.pub", bundle: str = "b", signature: Path | None = None) -> str:
    """The sentence with which the command refuses the bundle."""
    command = ["check-signature", str(place / bundle), "--signed-by", str(place / public), *(["--signature", str(signature)] if signature else [])]
    done = CliRunner(catch_exceptions=True).invoke(cli, command, standalone_mode=False)
    assert isinstance(done.exception, EdgekitError), (done.output, done.exception)
    assert says in str(done.exception), done.exception
    return str(done.exception)


# The library as the oracle.


def test_model_signing_itself_checks_what_edgekit_signed(place: Path):
    config = verifying.Config().use_elliptic_key_verifier(public_key=place / "mine.pub")
    config.verify(place / "b", place / "b.sig")
    (place / "b" / "main.onnx").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"main\.onnx"):
        config.verify(place / "b", place / "b.sig")


def test_the_envelope_is_what_its_specification_says(place: Path):
    """DSSE 1.0 and in-toto, read by hand: the signature holds over the encoded payload, the payload names every file by its SHA-256."""
    data = json.loads((place / "b.sig").read_bytes())
    payload = base64.b64decode(data["dsseEnvelope"]["payload"])
    encoded = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    public = serialization.load_pem_public_key((place / "mine.pub").read_bytes())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(base64.b64decode(data["dsseEnvelope"]["signatures"][0]["sig"]), encoded, ec.ECDSA(hashes.SHA256()))
    listed = {r["name"]: r["digest"] for r in json.loads(payload)["predicate"]["resources"]}
    files = {str(p.relative_to(place / "b")): hashlib.sha256(p.read_bytes()).hexdigest() for p in (place / "b").rglob("*") if p.is_file()}
    assert listed == files and "bundle.json" in files and "bom.json" in files


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_edgekit_checks_what_model_signing_signed(tmp_path: Path, curve: type[ec.EllipticCurve]):
    bundle = toy(tmp_path / "b")
    private, public = key_pair(tmp_path, "mine", ec.generate_private_key(curve()))
    library.Config().use_elliptic_key_signer(private_key=private).sign(bundle.folder, tmp_path / "theirs")
    found = signing.open_signed(bundle.folder, public, tmp_path / "theirs")
    assert found.bundle.sha256 == bundle.sha256 == hashlib.sha256((bundle.folder / "bundle.json").read_bytes()).hexdigest()
    assert found.key.curve == {256: "P-256", 384: "P-384", 521: "P-521"}[curve().key_size]


def test_the_commands_of_the_documentation(tmp_path: Path):
    """Keys by openssl, signed and checked by the real command line and by that of model-signing."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    toy(tmp_path / "b")
    edgekit = [sys.executable, "-m", "edgekit"]

    def call(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    call("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "private.pem")
    call("openssl", "pkey", "-in", "private.pem", "-pubout", "-out", "public.pem")
    signed = json.loads(call(*edgekit, "sign", "b", "--key", "private.pem", "--json"))
    assert signed["signature"] == "b.sig" and signed["digest"] == open_bundle(tmp_path / "b").sha256
    (tmp_path / "b" / "evidence").mkdir()  # what is found out later is not part of what was signed
    (tmp_path / "b" / "evidence" / "verify-x.json").write_text("{}")
    assert signed["digest"] in call(*edgekit, "check-signature", "b", "--signed-by", "public.pem")
    call(sys.executable, "-m", "model_signing", "verify", "key", "b", "--signature", "b.sig", "--public_key", "public.pem")
    np.savez(tmp_path / "x.npz", x=np.float32([1, 2]))
    assert "[1. 2.]" in call(*edgekit, "run", "b", "--signed-by", "public.pem", "--input", "x.npz")


def test_preparations_are_signed_along(tmp_path: Path):
    inner = toy(tmp_path / "inner")
    model, own = toy_bundles.graph((toy_bundles.tensor("y", 2),), (toy_bundles.tensor("z", 2),), [toy_bundles.helper.make_node("Neg", ["y"], ["z"])])
    outer = toy_bundles.bundle(tmp_path / "b", {"main": (model, own)}, own, Program((Phase("main", inputs={"y": value("y")}, outputs={"z": "z"}),)),
                               prepares={"voice": inner})  # fmt: skip
    private, public = key_pair(tmp_path, "mine")
    signing.sign(outer.folder, private)
    (tmp_path / "b" / "voice" / "evidence").mkdir()
    (tmp_path / "b" / "voice" / "evidence" / "x.json").write_text("{}")
    assert signing.open_signed(outer.folder, public).bundle.sha256 == outer.sha256
    (tmp_path / "b" / "voice" / "main.onnx").write_bytes(b"other")
    with pytest.raises(EdgekitError, match=r"voice/main\.onnx"):
        signing.open_signed(outer.folder, public)


# What is changed, added, hidden.


def resealed(folder: Path) -> None:
    """Another graph, and a manifest that says its true hash: whole, but not what was signed."""
    (folder / "main.onnx").write_bytes(toy_bundles.decay(3)[0])
    data = json.loads((folder / "bundle.json").read_text())
    data["files"]["main.onnx"] = hashlib.sha256((folder / "main.onnx").read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(data))


def linked(folder: Path) -> None:
    (folder / "main.onnx").rename(folder.parent / "outside")
    (folder / "main.onnx").symlink_to(folder.parent / "outside")


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file changed": (lambda f: (f / "main.onnx").write_bytes(b"x"), "'main.onnx' was changed"),
    "one bit of the answers": (lambda f: (f / "golden.safetensors").write_bytes((f / "golden.safetensors").read_bytes()[:-1] + b"\x01"), "'golden.safetensors' was changed"),
    "inventory changed": (lambda f: (f / "bom.json").write_text("{}"), "'bom.json' was changed"),
    "a blank in the manifest": (lambda f: (f / "bundle.json").write_text((f / "bundle.json").read_text() + " "), "'bundle.json' was changed"),
    "another graph with its hash": (resealed, "was changed"),
    "a file missing": (lambda f: (f / "golden.safetensors").unlink(), "'golden.safetensors' is missing"),
    "the manifest missing": (lambda f: (f / "bundle.json").unlink(), "no bundle in"),
    "a file as a link": (linked, "main.onnx"),
    "a file as a pipe": (lambda f: ((f / "main.onnx").unlink(), os.mkfifo(f / "main.onnx")), "'main.onnx' is missing"),
    "a file too many": (lambda f: (f / "extra.py").write_text("x"), "differ from what bundle.json lists: extra.py"),
    ".gitattributes": (lambda f: (f / ".gitattributes").write_text("x"), "lists: .gitattributes"),
    ".git/config": (lambda f: ((f / ".git").mkdir(), (f / ".git" / "config").write_text("x")), "lists: .git/config"),
    "a hidden file": (lambda f: (f / ".hidden").write_text("x"), "lists: .hidden"),
    "a linked folder": (lambda f: (f / "more").symlink_to("/etc"), "lists: more"),
    "a link to nothing": (lambda f: (f / "more").symlink_to("nothing"), "lists: more"),
    "a pipe too many": (lambda f: os.mkfifo(f / "more"), "lists: more"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_bundle_that_is_not_what_was_signed_is_refused(place: Path, name: str):
    spoil, says = SPOILT[name]
    spoil(place / "b")
    refused(place, says)


def test_files_that_model_signing_ignores_do_not_hide(place: Path):
    """The reason for the second check: the library alone lets an unsigned file through."""
    library.Config().use_elliptic_key_signer(private_key=place / "mine.pem").sign(place / "b", place / "b.sig")
    (place / "b" / ".gitattributes").write_text("payload")
    verifying.Config().use_elliptic_key_verifier(public_key=place / "mine.pub").verify(place / "b", place / "b.sig")
    refused(place, "lists: .gitattributes")


def test_a_signature_that_leaves_files_out_is_refused(place: Path):
    """By the right key, over the right folder, but told to ignore what is then replaced."""
    config = hashing.Config().set_ignored_paths(paths=["main.onnx", "bundle.json"])
    library.Config().set_hashing_config(config).use_elliptic_key_signer(private_key=place / "mine.pem").sign(place / "b", place / "b.sig")
    resealed(place / "b")
    verifying.Config().use_elliptic_key_verifier(public_key=place / "mine.pub").verify(place / "b", place / "b.sig")
    refused(place, "does not sign the same files that")


def test_no_signature_and_the_wrong_ones(place: Path):
    assert "made with another key" in refused(place, place.joinpath("other.pub").name, public="other.pub")
    toy(place / "c", 0.25)
    refused(place, "is not signed: there is no", bundle="c")
    shutil.copy(place / "b.sig", place / "c.sig")
    refused(place, "or the signature is of another bundle", bundle="c")
    forged = json.loads((place / "b.sig").read_bytes())  # the other key signs; the file names mine
    signing.sign(place / "b", place / "other.pem", place / "theirs.sig")
    forged["dsseEnvelope"] = json.loads((place / "theirs.sig").read_bytes())["dsseEnvelope"]
    (place / "b.sig").write_text(json.dumps(forged))
    refused(place, "is a forgery")
    with pytest.raises(EdgekitError, match="would lie in the bundle"):
        signing.sign(place / "b", place / "mine.pem", place / "b" / "b.sig")
    with pytest.raises(EdgekitError, match=r"\.draft-left"):
        (place / "b" / ".draft-left").write_text("of a killed process")
        signing.sign(place / "b", place / "mine.pem")


# Hostile signature files.


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def spoil(raw: bytes) -> bytes:
        data = json.loads(raw)
        change(data)
        return json.dumps(data).encode()

    return spoil


def statement(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def spoil(raw: bytes) -> bytes:
        data = json.loads(raw)
        said = json.loads(base64.b64decode(data["dsseEnvelope"]["payload"]))
        change(said)
        data["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(said).encode()).decode()
        return json.dumps(data).encode()

    return spoil


def resources(data: dict[str, Any]) -> list[dict[str, str]]:
    return data["predicate"]["resources"]


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda raw: b"", "is empty"),
    "9 MB": (lambda raw: raw + b" " * 9_000_000, "9 MB"),
    "a web page": (lambda raw: b"<!DOCTYPE html><html></html>", "not JSON"),
    "random bytes": (lambda raw: np.random.default_rng(0).bytes(4000), "not JSON"),
    "cut": (lambda raw: raw[:-20], "not JSON"),
    "deep": (lambda raw: b"[" * 200_000 + b"]" * 200_000, "nested"),
    "a key twice": (lambda raw: raw.replace(b'{"', b'{"mediaType": "x", "mediaType": "y", "', 1), "twice"),
    "escapes": (changed(lambda d: d.update(mediaType="\x1b[2J")), "control characters"),
    "a list": (lambda raw: b"[]", "is no signature of model-signing"),
    "a number": (lambda raw: b"7", "is no signature of model-signing"),
    "cosign's old format": (lambda raw: b'{"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1"}', "unknown format"),
    "no envelope": (changed(lambda d: d.pop("dsseEnvelope")), "no 'dsseEnvelope.payloadType'"),
    "a certificate": (changed(lambda d: d.update(verificationMaterial={"certificate": {"rawBytes": ""}})), "made with a certificate"),
    "no key": (changed(lambda d: d["verificationMaterial"].update(publicKey={})), "no 'publicKey.hint'"),
    "a key of words": (changed(lambda d: d["verificationMaterial"]["publicKey"].update(hint="mine")), "does not say which key"),
    "no signature": (changed(lambda d: d["dsseEnvelope"].update(signatures=[])), "holds 0"),
    "two signatures": (changed(lambda d: d["dsseEnvelope"]["signatures"].append(d["dsseEnvelope"]["signatures"][0])), "holds 2"),
    "another payload type": (changed(lambda d: d["dsseEnvelope"].update(payloadType="text/plain")), "of 'text/plain'"),
    "broken base64": (changed(lambda d: d["dsseEnvelope"].update(payload="@@@")), "base64 is broken"),
    "an empty signature": (changed(lambda d: d["dsseEnvelope"]["signatures"][0].update(sig="")), "is a forgery"),
    "a signature of zeros": (changed(lambda d: d["dsseEnvelope"]["signatures"][0].update(sig=base64.b64encode(bytes(70)).decode())), "is a forgery"),
    "a payload that is none": (changed(lambda d: d["dsseEnvelope"].update(payload="AAAA")), "its statement: not JSON"),
    "model-signing 0.2": (statement(lambda d: d.update(predicateType="https://model_signing/Digests/v0.1")), "something else than model-signing 1"),
    "other hashes": (statement(lambda d: d["predicate"]["serialization"].update(hash_type="blake2")), "was made over blake2"),
    "shards": (statement(lambda d: d["predicate"]["serialization"].update(method="shards")), "of shards"),
    "a file outside": (statement(lambda d: resources(d)[0].update(name="../../etc/passwd")), "would lie outside"),
    "an absolute file": (statement(lambda d: resources(d)[0].update(name="/etc/passwd")), "would lie outside"),
    "a file twice": (statement(lambda d: resources(d).append(resources(d)[0])), "or two, of the file"),
    "no hash": (statement(lambda d: resources(d)[0].update(digest="00")), "says no SHA-256"),
    "a file less": (statement(lambda d: resources(d).pop()), "is a forgery"),
    "another hash": (statement(lambda d: resources(d)[0].update(digest="0" * 64)), "is a forgery"),
    "another name": (statement(lambda d: d["subject"][0].update(name="other")), "is a forgery"),
    "an unknown field": (changed(lambda d: d.update(more=1)), "is no signature of"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_signature_is_one_sentence(place: Path, name: str):
    spoil, says = HOSTILE[name]
    (place / "b.sig").write_bytes(spoil((place / "b.sig").read_bytes()))
    sentence = refused(place, says)
    assert len(sentence) < 600 and sentence.isprintable()


def spoilt_bytes(raw: bytes, rng: np.random.Generator) -> bytes:
    """One seeded change: a byte, a bit, a piece less, a piece twice."""
    at, how, made = int(rng.integers(len(raw))), int(rng.integers(4)), bytearray(raw)
    end = at + int(rng.integers(1, 40))
    made[at : at + 1 if how < 2 else end] = [rng.bytes(1), bytes([made[at] ^ 1 << rng.integers(8)]), b"", made[at:end] * 2][how]
    return bytes(made)


def test_changed_bytes_never_sign_something_else(place: Path, count: int = 1500):
    """Changes of the file, of the statement in it and of the signature in it: refused in a sentence, or what is signed is the same to the byte."""
    raw, rng = (place / "b.sig").read_bytes(), np.random.default_rng(0)

    def inside(of: bytes) -> bytes:
        return base64.b64decode(json.loads(of)["dsseEnvelope"]["payload"])

    read = opened = 0
    for i in range(count):
        data = json.loads(raw)
        envelope = data["dsseEnvelope"]
        place_of, key = ((envelope, "payload"), (envelope["signatures"][0], "sig"))[i % 2]
        place_of[key] = base64.b64encode(spoilt_bytes(base64.b64decode(place_of[key]), rng)).decode()
        spoilt = spoilt_bytes(raw, rng) if i % 3 == 0 else json.dumps(data).encode()
        try:
            read_statement(spoilt, "it")
            read += 1
            (place / "b.sig").write_bytes(spoilt)
            signing.open_signed(place / "b", place / "mine.pub")
            opened += 1
            assert inside(spoilt) == inside(raw)
        except EdgekitError:
            pass
    assert read > count / 4 and opened < read / 10  # the changes get past the reader, and hardly any gets further


def test_a_signature_that_is_no_plain_file(place: Path):
    (place / "b.sig").unlink()
    os.mkfifo(place / "b.sig")
    refused(place, "no regular file")
    refused(place, "a folder", signature=place / "b")


# Keys.


def test_keys_that_cannot_sign_are_said_to_be_what_they_are(place: Path, monkeypatch: pytest.MonkeyPatch):
    ed, ed_public = key_pair(place, "ed", ed25519.Ed25519PrivateKey.generate())
    rsa_key, _ = key_pair(place, "rsa", rsa.generate_private_key(65537, 2048))
    odd, _ = key_pair(place, "odd", ec.generate_private_key(ec.SECP256K1()))
    locked, locked_public = key_pair(place, "locked", password=b"secret")
    (place / "words").write_text("no key")
    (place / "broken").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    (place / "huge").write_bytes(b"-" * 30_000)
    ssh = ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    (place / "ssh").write_bytes(ssh)
    for file, says in ((ed, "key of Ed25519"), (rsa_key, "key of RSA"), (odd, "curve secp256k1"), (locked, "is encrypted; set EDGEKIT_KEY_PASSWORD"),
                       (place / "words", "no PEM file"), (place / "broken", "cannot be read as a private key"), (place / "huge", "of up to 0 MB"),
                       (place / "ssh", "key of OpenSSH"), (place / "mine.pub", "no private key but public key"), (place / "none", "cannot read"),
                       (place, "is a folder")):  # fmt: skip
        with pytest.raises(EdgekitError, match=says):
            signing.sign(place / "b", file)
    with pytest.raises(EdgekitError, match="password is wrong"):
        signing.sign(place / "b", locked, password="other")
    monkeypatch.setenv("EDGEKIT_KEY_PASSWORD", "secret")
    done = CliRunner().invoke(cli, ["sign", str(place / "b"), "--key", str(locked)])
    assert done.exit_code == 0, done.exception
    assert signing.open_signed(place / "b", locked_public).key.curve == "P-256"
    assert CliRunner().invoke(cli, ["sign", str(place / "b"), "--key", str(place / "mine.pem")]).exit_code == 0  # which needs no password
    for public, says in (("mine.pem", "holds a private key"), (ed_public.name, "key of Ed25519"), ("words", "no PEM file"), ("none", "cannot read")):
        refused(place, says, public=public)


def test_without_the_library_the_sentence_says_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signing, "NEEDS", ("no_such_module",))
    refused(place, "pip install 'edgekit[sign]'")


# The verbs.


@pytest.mark.parametrize("verb", ["run", "verify", "profile", "embed"])
def test_verbs_open_nothing_that_is_not_signed(place: Path, verb: str):
    """The bundle is spoilt, too, so that a verb that looked at it first would say something else."""
    resealed(place / "b")
    (place / "b.sig").unlink()
    command = [verb, str(place / "b"), "--signed-by", str(place / "mine.pub"), *(["--out", str(place / "app")] if verb == "embed" else [])]
    done = CliRunner().invoke(cli, command, standalone_mode=False)
    assert isinstance(done.exception, EdgekitError) and "is not signed" in str(done.exception)
    assert not (place / "app").exists() and not (place / "b" / "evidence").exists()


def test_the_face_opens_what_is_signed(place: Path):
    import edgekit

    with edgekit.open(place / "b", signed_by=place / "mine.pub") as opened:
        np.testing.assert_array_equal(opened.run(x=np.float32([1, 2]))["y"], np.float32([1, 2]))
    with pytest.raises(EdgekitError, match="another key"):
        edgekit.open(place / "b", signed_by=place / "other.pub")


# C++, by the digest.


@pytest.fixture(scope="module")
def runner() -> Path:
    part = registry.load(Runtime, "cpp")
    if part.ready():
        pytest.skip(part.ready())
    return Path(str(_cpp_build.runner(cpp.NATIVE)))


def test_the_runner_opens_the_bundle_of_the_digest_and_no_other(place: Path, runner: Path):
    digest = signing.open_signed(place / "b", place / "mine.pub").bundle.sha256

    def said(said_digest: str) -> subprocess.CompletedProcess[str]:
        command = [str(runner), str(place / "b"), "--golden", "--threads", "1", "--digest", said_digest, "--library", str(_cpp_build.onnxruntime_folder())]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert said(digest).returncode == 0
    for wrong, says in (("0" * 64, f"its digest is {digest}, not 0000"), (digest.upper(), "64 of 0-9 and a-f"), (digest[:-1], "64 of 0-9 and a-f"),
                        (digest + "0", "64 of 0-9 and a-f"), ("\x1b[2J", r"found '\x1b[2J'"), ("", "leave it out")):  # fmt: skip
        done = said(wrong)
        assert done.returncode == 2 and says in done.stderr and not done.stdout and done.stderr.count("\n") == 1, done
    (place / "b" / "main.onnx").write_bytes(b"other")
    assert "was changed after" in said(digest).stderr
    resealed(place / "b")  # whole again, and another one: the digest is compared before anything is parsed
    assert "is not the bundle that was asked for" in said(digest).stderr
    (place / "b" / "bundle.json").write_text("no JSON")
    assert "is not the bundle that was asked for" in said(digest).stderr


def test_an_embedded_application_names_its_bundle(place: Path):
    bundle = open_bundle(place / "b")
    embed(bundle, place / "app")
    code = (place / "app" / "main.cpp").read_text()
    assert f'kDigest = "{bundle.sha256}";' in code and 'APP_BUNDLE, "", kDigest)' in code

"""TLS and mTLS with real certificates and real clients: httpx, curl and bare sockets."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from serving_parts import picture, running
from test_serving_cli import finished, install_domain, make_site, serving

from toolkit.errors import UsageError
from toolkit.serving.access import add_key
from toolkit.serving.assembly import Tuning
from toolkit.serving.limits import Limits
from toolkit.serving.tls import server_context


@dataclass(frozen=True)
class Issued:
    """A certificate and its key as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of its own, made for one test."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        made = self._signed(self._subject, self._key.public_key(), ca=True)
        self.file.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._signed(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(), ca=False)
        files = Issued(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        files.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _signed(self, subject: x509.Name, public: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        usage = x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self._subject).public_key(public)
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False).add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )  # fmt: skip
        return builder.sign(self._key, hashes.SHA256())


def trusting(authority: Authority, client: Issued | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


def test_a_client_that_trusts_the_authority_is_answered_over_tls(tmp_path: Path) -> None:
    plant = Authority(tmp_path, "plant")
    mine = plant.issue("server")
    with running(tmp_path, tls=server_context(mine.certificate, mine.key)) as server:
        assert server.url.startswith("https://127.0.0.1:")
        with server.client(verify=trusting(plant)) as client:
            answer = client.post("/v1/inspect", content=picture((230, 20, 20)), headers={"Content-Type": "image/png"})
            assert answer.json()["verdict"] == "good"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(server.url + "/healthz")
        host, _, port = server.url.removeprefix("https://").partition(":")
        old = trusting(plant)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with (
            socket.create_connection((host, int(port))) as plain,
            pytest.raises(ssl.SSLError),
            old.wrap_socket(plain, server_hostname="localhost"),
        ):
            pass
        with socket.create_connection((host, int(port)), timeout=5) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert b"200" not in plain.recv(1000)
        with server.client(verify=trusting(plant)) as client:
            assert client.get("/healthz").status_code == 200


def test_only_clients_of_the_authority_may_connect(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    plant, other = Authority(tmp_path, "plant"), Authority(tmp_path / "other", "other")
    mine, line, stranger = plant.issue("server"), plant.issue("line-1"), other.issue("stranger")
    with running(tmp_path, tls=server_context(mine.certificate, mine.key, plant.file)) as server:
        with server.client(verify=trusting(plant, line)) as client:
            assert client.get("/readyz").status_code == 200
        with httpx.Client(verify=trusting(plant, line)) as client:
            assert client.get(server.url + "/readyz").status_code == 401  # the certificate is no key
        for refused in (None, stranger):
            with (
                server.client(verify=trusting(plant, refused)) as client,
                pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)),
            ):
                client.get("/healthz")


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"], ids=["nothing", "half a hello"])
def test_clients_that_begin_no_handshake_are_let_go_and_others_answered_meanwhile(tmp_path: Path, said: bytes) -> None:
    plant = Authority(tmp_path, "plant")
    mine = plant.issue("server")
    limits = Limits(handshakes=4, handshake_seconds=0.6)
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(
            running(tmp_path, tls=server_context(mine.certificate, mine.key), tuning=Tuning(limits=limits))
        )
        host, _, port = server.url.removeprefix("https://").partition(":")
        silent = [opened.enter_context(socket.create_connection((host, int(port)), timeout=5)) for _ in range(12)]
        for one in silent:
            with contextlib.suppress(ConnectionError):  # of too many the oldest is gone already
                one.sendall(said)
        began = time.monotonic()
        with server.client(verify=trusting(plant)) as client:
            for _ in range(3):
                assert client.get("/healthz", headers={"Connection": "close"}).status_code == 200
        assert time.monotonic() - began < 0.5
        for one in silent:
            with contextlib.suppress(ConnectionError):
                assert one.recv(100) == b""
        assert time.monotonic() - began < 3
        late = opened.enter_context(socket.create_connection((host, int(port)), timeout=5))
        ended = time.monotonic()
        opened.pop_all().close()  # the end of the server waits for nobody who says nothing
        assert time.monotonic() - ended < 3
        assert late.fileno() == -1


def test_files_that_are_no_certificate_are_told(tmp_path: Path) -> None:
    plant = Authority(tmp_path, "plant")
    mine, other = plant.issue("server"), plant.issue("other")
    (tmp_path / "text").write_text("no PEM")
    for certificate, key, authority in (
        (tmp_path / "missing", mine.key, None), (mine.certificate, other.key, None),
        (tmp_path / "text", mine.key, None), (mine.certificate, mine.key, tmp_path / "text"),
        (mine.certificate, mine.key, tmp_path / "missing"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="TLS cannot use"):
            server_context(certificate, key, authority)


def test_the_command_serves_https_to_curl(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    plant = Authority(tmp_path, "plant")
    mine, line = plant.issue("server"), plant.issue("line-1")
    site, packages = make_site(tmp_path), install_domain(tmp_path / "packages", seconds=0)
    options = ("--tls-cert", str(mine.certificate), "--tls-key", str(mine.key), "--client-ca", str(plant.file))
    (tmp_path / "part.png").write_bytes(picture((230, 20, 20)))
    with serving(site, packages, *options, "--host", "0.0.0.0") as (process, told):
        key = add_key(site, "line-1", "infer")
        curl = ["curl", "--silent", "--show-error", "--cacert", str(plant.file), "-H", f"Authorization: Bearer {key}"]
        send = [
            "-H",
            "Content-Type: image/png",
            "--data-binary",
            f"@{tmp_path / 'part.png'}",
            told["url"] + "/v1/inspect",
        ]
        mine_too = ["--cert", str(line.certificate), "--key", str(line.key)]
        answer = subprocess.run([*curl, *mine_too, *send], capture_output=True, text=True, timeout=30)
        assert '"verdict":"good"' in answer.stdout, answer.stderr
        refused = subprocess.run([*curl, *send], capture_output=True, text=True, timeout=30)
        assert refused.returncode != 0
        process.terminate()
        assert "unencrypted" not in process.communicate(timeout=30)[1]
    code, _out, err = finished("serve", "--site", str(site), "--tls-cert", str(mine.certificate), packages=packages)
    assert (code, "needs a certificate and its key" in err) == (2, True)

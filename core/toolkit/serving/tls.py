"""TLS of a server: its certificate, and, where only known machines may connect, whose certificates they need.

A client's certificate opens the connection and no more: who asks is said by the API key, as without TLS, so that one
machine may hold keys of several roles.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from toolkit.errors import UsageError


def server_context(certificate: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """TLS 1.2 or later with forward secrecy.

    Args:
        certificate: PEM, the server's own and those between it and its authority.
        key: PEM, without a passphrase.
        client_ca: PEM of the authorities whose clients may connect; None asks for no certificate.

    Raises:
        UsageError: a file is missing, is not PEM, or the key is not the certificate's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of TLS 1.2; all of 1.3 are as good
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise _unusable(f"{certificate} with {key}", error) from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ValueError) as error:
            raise _unusable(str(client_ca), error) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _unusable(what: str, error: Exception) -> UsageError:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return UsageError(f"TLS cannot use {what}: {reason}", hint="Give PEM files: the certificate and its own key.")

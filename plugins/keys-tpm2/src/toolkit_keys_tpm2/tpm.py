"""A TPM 2 and the two things that are asked of it, sealing and unsealing 32 bytes, by tpm2-pytss over tpm2-tss.

Secrets go over the bus encrypted, by sessions salted with the TPM's own key. What the TPM answers becomes the
toolkit's errors.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from toolkit.errors import EnvironmentUnfit, IntegrityError, ToolkitError

try:
    import tpm2_pytss as tss
    from tpm2_pytss.constants import ESYS_TR, TPM2_ALG, TPM2_RC, TPM2_SE, TPMA_OBJECT, TPMA_SESSION
except (ImportError, RuntimeError, NotImplementedError) as error:
    raise EnvironmentUnfit(
        "tpm2-pytss is not installed, or its library tpm2-tss is not",
        hint="apt-get install libtss2-dev gcc pkg-config; pip install 'distil-toolkit-keys-tpm2[tpm]'",
        plugin="distil-toolkit-keys-tpm2",
    ) from error

PLUGIN = "distil-toolkit-keys-tpm2"
# The storage key that every boot makes anew from the owner's seed: TCG's template for P-256, so nothing is stored.
STORAGE_KEY = "ecc256:aes128cfb"
# A TPM has room for a few sessions and objects, and a device opens once.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Tpm:
    """A TPM that was opened, with its storage key."""

    esapi: Any
    storage: Any

    def seal(self, secret: bytes, passphrase: str, pcrs: str) -> tuple[bytes, bytes]:
        """(public, private) of an object that only this TPM opens: to the passphrase, in this state of `pcrs`."""
        sensitive = tss.TPM2B_SENSITIVE_CREATE(
            tss.TPMS_SENSITIVE_CREATE(userAuth=_auth(passphrase), data=tss.TPM2B_SENSITIVE_DATA(secret))
        )
        with self._session(TPM2_SE.TRIAL, None) as trial:
            self._bind(trial, pcrs)
            policy = self.esapi.policy_get_digest(trial)
        template = tss.TPMT_PUBLIC(
            type=TPM2_ALG.KEYEDHASH, nameAlg=TPM2_ALG.SHA256, authPolicy=bytes(policy),
            # Not USERWITHAUTH: only the policy opens it. Not NODA: the TPM counts wrong passphrases, and locks.
            objectAttributes=TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT,
        )  # fmt: skip
        template.parameters.keyedHashDetail.scheme.scheme = TPM2_ALG.NULL
        with self._session(TPM2_SE.HMAC, TPMA_SESSION.DECRYPT) as hidden:
            private, public, *_ = self.esapi.create(
                self.storage, sensitive, tss.TPM2B_PUBLIC(template), session2=hidden
            )  # fmt: skip
        return bytes(public.marshal()), bytes(private.marshal())

    def unseal(self, public: bytes, private: bytes, passphrase: str, pcrs: str) -> bytes:
        """The secret; IntegrityError where anything of it was altered, the passphrase is another, or the state is."""
        try:
            found, _ = tss.TPM2B_PUBLIC.unmarshal(public)
            hidden, _ = tss.TPM2B_PRIVATE.unmarshal(private)
            handle = self.esapi.load(self.storage, hidden, found)
        except tss.TSS2_Exception as error:
            if _code(error) == TPM2_RC.LOCKOUT:  # asked already when an object is loaded
                raise _refused(error) from error
            raise IntegrityError(
                "this TPM does not open the key: its file was altered, or is another machine's", part="key file",
                hint="Restore it from its backup, or use it on the machine that it was made on.",
            ) from error  # fmt: skip
        try:
            self.esapi.tr_set_auth(handle, _auth(passphrase))
            with self._session(TPM2_SE.POLICY, TPMA_SESSION.ENCRYPT) as session:
                self._bind(session, pcrs)
                return bytes(self.esapi.unseal(handle, session1=session))
        except tss.TSS2_Exception as error:
            raise _refused(error) from error
        finally:
            self.esapi.flush_context(handle)

    def _bind(self, session: Any, pcrs: str) -> None:
        """The passphrase always, and the registers where there are any."""
        if pcrs:
            self.esapi.policy_pcr(session, b"", tss.TPML_PCR_SELECTION.parse(pcrs))
        self.esapi.policy_auth_value(session)

    @contextlib.contextmanager
    def _session(self, kind: Any, attributes: Any) -> Iterator[Any]:
        """A session, salted by the storage key; with attributes it hides what goes one way."""
        session = self.esapi.start_auth_session(
            self.storage, ESYS_TR.NONE, kind, tss.TPMT_SYM_DEF.parse("aes128cfb"), TPM2_ALG.SHA256
        )
        try:
            if attributes is not None:
                self.esapi.trsess_set_attributes(session, TPMA_SESSION.CONTINUESESSION | attributes)
            yield session
        finally:
            self.esapi.flush_context(session)


@contextlib.contextmanager
def opened(tcti: str) -> Iterator[Tpm]:
    """The TPM behind a TCTI, e.g. `device:/dev/tpmrm0`.

    Raises:
        EnvironmentUnfit: there is none, this user may not use it, it is in lockout, or it fails.
    """
    with _ONE_AT_A_TIME:
        try:
            with tss.ESAPI(tcti) as esapi:
                storage, *_ = esapi.create_primary(None, STORAGE_KEY)
                try:
                    yield Tpm(esapi, storage)
                finally:
                    esapi.flush_context(storage)
        except ToolkitError:
            raise
        except (tss.TSS2_Exception, RuntimeError) as error:
            raise EnvironmentUnfit(
                f"the TPM {tcti} cannot be used: {error}",
                hint="Look whether it is switched on, and whether this user is in the group tss.", plugin=PLUGIN,
            ) from error  # fmt: skip


def _auth(passphrase: str) -> Any:
    """What the TPM compares: 32 bytes at most, so the passphrase's hash. Who guesses has to ask the TPM."""
    return tss.TPM2B_AUTH(hashlib.sha256(passphrase.encode()).digest() if passphrase else b"")


def _code(error: Any) -> int:
    """The answer without the number of the parameter or session that it is about (TPM 2.0 part 2, 6.6.2)."""
    return int(error.rc) & (0xBF if error.rc & 0x80 else 0xFFF)


def _refused(error: Any) -> ToolkitError:
    code = _code(error)
    if code in (TPM2_RC.AUTH_FAIL, TPM2_RC.BAD_AUTH):
        return IntegrityError(
            "the passphrase does not open the key", part="key file", hint="Check the passphrase file; the TPM counts."
        )
    if code in (TPM2_RC.POLICY_FAIL, TPM2_RC.VALUE, TPM2_RC.PCR_CHANGED):
        return IntegrityError(
            "the TPM does not open the key in this state of the machine", part="key file",
            hint="Boot what the key was bound to (TOOLKIT_TPM2_PCRS when it was made), or restore the key elsewhere.",
        )  # fmt: skip
    if code == TPM2_RC.LOCKOUT:
        return EnvironmentUnfit(
            "the TPM takes no passphrase for a while: there were too many wrong ones",
            hint="Wait, or let the owner clear it: tpm2_dictionarylockout --clear-lockout.", plugin=PLUGIN,
        )  # fmt: skip
    return EnvironmentUnfit(f"the TPM fails: {error}", hint="Look into the kernel's log.", plugin=PLUGIN)

"""Put everything a site needs into one encrypted, signed bundle: ENCRYPTED ON-PREM PACKAGING."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import onnxruntime

from toolkit.artifacts import Artifact, Bundle, BundleFile, CompiledModel, Dataset, Facts, TeacherLabels
from toolkit.errors import IntegrityError, unknown_name
from toolkit.plugins import DOMAINS
from toolkit.protocols import CipherSuite
from toolkit.seal.bundle import BundleHeader, seal_bundle
from toolkit.seal.custody import Access
from toolkit.seal.escrow import escrow_folder
from toolkit.seal.keys import KeyRing, ensure_development_keys
from toolkit.seal.manifest import DomainRef, LicenceRecord
from toolkit.seal.suites import CIPHER, cipher_of, suite_of
from toolkit.seal.verify import verify_bundle
from toolkit.stages.context import Context, Stage, Upstream, take
from toolkit.stages.papers import data_licence, making_of
from toolkit.tasks.base import task_of
from toolkit.workspace import Stored, canonical_json


def run(context: Context, upstream: Upstream, folder: Path) -> Facts:
    """Seal with the publisher's key; the content key is kept only in the escrow grant."""
    context.report("seal the bundle", 0, 1)
    compiled = take(upstream, "compile", CompiledModel)
    files = list(_files(context, upstream))
    dataset = take(upstream, "prepare", Dataset)
    files += chain.from_iterable(context.plugins.hook.package(plan=context.plan, dataset=dataset, compiled=compiled))
    sealed = seal_bundle(
        context.workspace.bundles,
        header=_header(context, upstream, files),
        files=files,
        keys=publisher_keys(context),
        escrow=escrow_folder(context.workspace.home),
        cipher=cipher_suite(context),
    )
    context.report("seal the bundle", 1, 1)
    return {
        "bundle_id": sealed.manifest.bundle_id,
        "path": str(sealed.path),
        "manifest_sha256": sealed.manifest.digest,
        "rung": compiled.rung,
        "development_keys": sealed.manifest.development_keys,
    }


def publisher_keys(context: Context) -> KeyRing:
    """The home's keys; a newcomer's are made on the way, without a passphrase, and say so."""
    return ensure_development_keys(context.workspace.keys, context.passphrase)


def cipher_suite(context: Context) -> CipherSuite:
    """How files are encrypted: by the suite that was asked for, or core's where the root allows it, or what it does."""
    keys, offered = publisher_keys(context), Access(ciphers=context.plugins.cipher_suites)
    ciphers = keys.trust.ciphers
    suite = context.suite or suite_of(keys.publisher.key_id, CIPHER if CIPHER in ciphers else ciphers[0])
    if cipher_of(suite) in ciphers and suite != suite_of(keys.publisher.key_id, cipher_of(suite)):
        raise unknown_name("suite", suite, keys.trust.suites, listed="The publisher's key and the root have")
    return offered.cipher(suite)


def _files(context: Context, upstream: Upstream) -> list[BundleFile]:
    dataset, compiled = take(upstream, "prepare", Dataset), take(upstream, "compile", CompiledModel)
    gate, record = upstream["gate"].path, upstream["label"].facts["record"]
    classes = {
        "classes": list(dataset.classes),
        "good_class": dataset.facts.get("good_class", ""),
        "channels": dataset.facts.get("channels"),
        "sample": bool(dataset.facts.get("sample")),
    }
    files = [
        *task_of(context.plan).bundle_files(compiled),
        BundleFile("plan", canonical_json(_portable_plan(context))),
        BundleFile("classes", canonical_json(classes)),
        BundleFile("thresholds", canonical_json({})),
        BundleFile("reference", (gate / "compiled.json").read_bytes()),
        BundleFile("gate", canonical_json(_decided(gate))),
        BundleFile("report", (context.run.folder / "report.html").read_bytes()),
    ]
    if record["licence_text"]:
        files.append(BundleFile("LICENSES/teacher.txt", record["licence_text"].encode(), secret=False))
    if (text := data_licence(context.plan, dataset.facts["licence"])) is not None:
        files.append(text)
    return files


def _decided(gate: Path) -> dict[str, Any]:
    """How the release was decided, for those who look at the model where it serves."""
    found = json.loads((gate / "report.json").read_bytes())
    return {
        "judged": found["judged"],
        "outcome": found["gate"]["outcome"],
        "because": found["gate"]["because"],
        "teacher": {"name": found["teacher"]["name"], "metrics": found["teacher"]["metrics"]},
        "ratios": found["costs"]["ratios"],
    }


def _portable_plan(context: Context) -> dict[str, Any]:
    """The frozen plan without this machine's folders."""
    plan = context.plan.model_dump(mode="json")
    plan["data"]["path"] = plan["teacher"]["checkpoint"] = plan["student"]["checkpoint"] = None
    return plan


def _header(context: Context, upstream: Upstream, files: list[BundleFile]) -> BundleHeader:
    from toolkit.compile.export import IR  # here: `toolkit plan` goes without onnx

    plan, compiled = context.plan, take(upstream, "compile", CompiledModel)
    dataset, record = take(upstream, "prepare", Dataset), take(upstream, "label", TeacherLabels).facts["record"]
    report = next(file.data for file in files if file.role == "report")
    data_text = next((file.data for file in files if file.role == "LICENSES/data.txt"), b"")
    overrides = [reason for reason in (context.override, plan.teacher.accept_unknown_licence) if reason]
    return BundleHeader(
        product=plan.product or plan.domain,
        domain=_domain_ref(context),
        variant="default",
        profile=compiled.profile,
        runtime=f"onnxruntime {onnxruntime.__version__}",
        opset=compiled.facts["opset"],
        ir=IR,
        rung=compiled.rung,
        report_sha256=hashlib.sha256(report).hexdigest(),
        teacher=LicenceRecord(
            record["id"],
            record["licence"],
            hashlib.sha256(record["licence_text"].encode()).hexdigest() if record["licence_text"] else "",
            record["distillation"],
            tuple(record["obligations"]),
        ),
        data=LicenceRecord(
            "data",
            dataset.facts["licence"]["text"],
            hashlib.sha256(data_text).hexdigest() if data_text else "",
            distillation="not-applicable",
        ),
        overrides=tuple(overrides),
        making=making_of(context, upstream),
    )


def _domain_ref(context: Context) -> DomainRef:
    """The domain by name and the versions that can serve what this one sealed: the same minor release."""
    info = next(i for i in context.plugins.infos if i.group == DOMAINS and i.name == context.plan.domain)
    return DomainRef(info.name, compatible_range(info.version))


def compatible_range(release: str) -> str:
    """`0.1.3` gives `>=0.1.3,<0.2`: what a minor release promises to read."""
    found = re.match(r"(\d+)\.(\d+)", release)
    if found is None:
        return f"=={release}"
    return f">={release},<{found[1]}.{int(found[2]) + 1}"


def stands(context: Context, artifact: Artifact) -> bool:
    """Whether the bundle is still there, whole, and signed by these keys."""
    path = Path(artifact.facts["path"])
    if not path.is_dir():
        return False
    try:
        verify_bundle(path, publisher_keys(context).trust)
    except IntegrityError:
        return False
    return True


def load(context: Context, stored: Stored) -> Bundle:
    return Bundle(Path(stored.facts["path"]), stored.digest, stored.parents, stored.facts)


def inputs(context: Context) -> Mapping[str, Any]:
    return {"override": context.override, "suite": context.suite, "trust": publisher_keys(context).trust.digest}


STAGE = Stage(
    name="seal",
    kind="bundle",
    keys=("domain", "product", "teacher.accept_unknown_licence"),
    needs=("prepare", "label", "compile", "gate"),
    code=("toolkit.seal", "toolkit.stages.papers", "toolkit.stages.seal"),
    run=run,
    load=load,
    inputs=inputs,
    stands=stands,
)

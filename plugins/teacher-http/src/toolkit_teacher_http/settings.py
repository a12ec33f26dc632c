"""The table [teacher_http] of toolkit.toml, and the key that never enters it."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from toolkit.errors import PlanError
from toolkit.plan import Plan, Section

SECTION = "teacher_http"
ENDPOINT = "/chat/completions"


class HttpSettings(Section):
    """Where the teacher answers, how it is asked, and what that may cost."""

    url: str = Field("", description="Base URL, such as https://teacher.example/v1; /chat/completions is added.")
    model: str = Field("", description="The model's name, as the server knows it.")
    api_key_file: Path | None = Field(None, description="File that holds the key; or a systemd credential's path.")
    ca_file: Path | None = Field(None, description="Certificate authority (PEM) of the server; else the public ones.")
    plain_http: bool = Field(False, description="Allow http:// to another machine: prompts and key unencrypted.")
    proxy: str = Field("", description="HTTP proxy to go through; the environment's is never used.")
    licence: str = Field("", description="Licence of the teacher's output, as SPDX id; else it is unknown.")

    temperature: float = Field(0.6, ge=0, le=2, description="Of the teacher's sampling.")
    top_p: float = Field(1.0, gt=0, le=1, description="Share of the probability that is sampled from.")
    max_tokens: int = Field(4096, ge=1, le=1_000_000, description="Most tokens of an answer, its reasoning included.")
    seed: int | None = Field(None, ge=0, lt=2**31, description="Of the teacher's sampling, where the server takes one.")
    top_logprobs: int = Field(0, ge=0, le=20, description="Likeliest tokens to give with each token of an answer.")

    concurrency: int = Field(8, ge=1, le=1024, description="Most requests at a time.")
    requests_per_minute: float | None = Field(None, gt=0, description="Most requests a minute.")
    timeout_s: float = Field(600.0, gt=0, description="Longest that one answer may take.")
    max_retries: int = Field(8, ge=0, le=100, description="Times that one prompt is asked again after a failure.")
    backoff_s: float = Field(1.0, gt=0, description="First wait before asking again; it doubles each time.")
    max_backoff_s: float = Field(30.0, gt=0, description="Longest such wait.")
    max_answer_mb: float = Field(32.0, gt=0, description="Largest answer that is read.")

    price_in: float = Field(0.0, ge=0, description="Price of a million prompt tokens, in cost.currency.")
    price_out: float = Field(0.0, ge=0, description="Price of a million tokens of answers, in cost.currency.")
    budget: float | None = Field(None, gt=0, description="Most that all answers may cost, earlier runs included.")

    @field_validator("url", "proxy")
    @classmethod
    def _is_a_base_url(cls, url: str) -> str:
        if not url:
            return url
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError where it is none
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it begins with https:// or http:// and names a server")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError("it holds no user, password, query or fragment: a key comes from api_key_file alone")
        return url.rstrip("/").removesuffix(ENDPOINT)

    @model_validator(mode="after")
    def _fits_together(self) -> HttpSettings:
        if self.budget is not None and not (self.price_in or self.price_out):
            raise ValueError("a budget needs price_in and price_out")
        if self.url.startswith("http://") and not self.plain_http and not _is_here(urlsplit(self.url).hostname or ""):
            raise ValueError("it is not encrypted; use https://, or plain_http = true for a network you trust")
        return self

    @property
    def endpoint(self) -> str:
        return self.url + ENDPOINT


def settings_of(plan: Plan) -> HttpSettings:
    """The plan's table.

    Raises:
        PlanError: it names no server or no model.
    """
    settings = cast(HttpSettings, getattr(plan, SECTION))
    for key in ("url", "model"):
        if not getattr(settings, key):
            raise PlanError(f"the teacher {plan.teacher.name} needs {SECTION}.{key}", hint=f"--set {SECTION}.{key}=...")
    return settings


def read_key(settings: HttpSettings) -> str | None:
    """The key, read anew each time and kept nowhere; None where the server asks for none.

    Raises:
        PlanError: the file is not there, is empty, or holds what is no key. Its content is never shown.
    """
    path = settings.api_key_file
    if path is None:
        return None
    hint = f"{SECTION}.api_key_file names a file that holds the key and nothing else."
    try:
        key = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise PlanError(f"cannot read the key from {path}: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError:
        raise PlanError(f"{path} holds what is no key", hint=hint) from None
    if not key or not key.isprintable() or " " in key:
        raise PlanError(f"{path} {'holds what is no key' if key else 'is empty'}", hint=hint)
    return key


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""The teacher `http` against a real server: what it asks, what it makes of answers, and what it refuses."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_parts import Chat, chat_server, wait_until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from toolkit.errors import EnvironmentUnfit, PlanError, Refused, ToolkitError, Unsupported
from toolkit.plan import Plan
from toolkit.resolve import Layer, resolve
from toolkit.stages.label import check_licence
from toolkit.text import Completion, Prompt, Sampling, TokenChoice, Usage
from toolkit_teacher_http import HttpSettings, HttpTeacher

KEY = "sk-not-for-anybody-else"
QUICK = {"backoff_s": 0.02, "max_backoff_s": 0.1, "max_retries": 3, "timeout_s": 10.0, "concurrency": 4}


def plan_of(url: str, teacher: str = "http", **settings: Any) -> Plan:
    table = {"url": url, "model": "wise-1", **QUICK, **settings}
    layer = Layer("test", {"domain": "mine", "teacher": {"name": teacher}, "teacher_http": table})
    return resolve([layer], {"teacher_http": HttpSettings}).plan


def prompts(count: int) -> list[Prompt]:
    return [Prompt.of(f"p{number}", f"question {number}") for number in range(count)]


def ask(plan: Plan, questions: list[Prompt], *, spent: float = 0.0) -> list[Completion]:
    return list(HttpTeacher().answers(plan, questions, spent=spent))


@pytest.fixture
def chat() -> Chat:
    return Chat()


@pytest.fixture
def url(chat: Chat) -> Iterator[str]:
    with chat_server(chat) as address:
        yield address


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("teacher-http")], 5)


# --- what is asked and what comes back ---------------------------------------------------------------------------


def test_it_asks_as_the_chat_interface_wants_and_reads_the_answer(chat: Chat, url: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    plan = plan_of(url, api_key_file=tmp_path / "key", temperature=0.25, max_tokens=99, seed=5, top_p=0.9)
    question = Prompt.of("p", "你好，世界 👋", system="请用中文回答")
    [answer] = ask(plan, [question])
    assert answer == Completion("p", "answer to 你好，世界 👋", "stop", Usage(10, 20))
    assert chat.asked == [
        {
            "model": "wise-1",
            "messages": [
                {"role": "system", "content": "请用中文回答"},
                {"role": "user", "content": "你好，世界 👋"},
            ],
            "temperature": 0.25,
            "top_p": 0.9,
            "max_tokens": 99,
            "seed": 5,
            "stream": False,
        }
    ]
    assert chat.headers[0]["authorization"] == f"Bearer {KEY}"


def test_every_prompt_is_answered_once_and_never_more_are_under_way_than_allowed(chat: Chat, url: str) -> None:
    chat.delay = 0.03
    answers = ask(plan_of(url), prompts(20))
    assert {answer.prompt_id: answer.text for answer in answers} == {
        f"p{number}": f"answer to question {number}" for number in range(20)
    }
    assert sorted(chat.paid) == sorted(f"question {number}" for number in range(20))
    assert chat.busiest == 4


def test_another_sample_of_a_prompt_has_another_seed(chat: Chat, url: str) -> None:
    question = prompts(1)[0].messages
    ask(plan_of(url, seed=7), [Prompt("a", question), Prompt("b", question, sample=3)])
    assert sorted(asked["seed"] for asked in chat.asked) == [7, 10]


def test_without_a_seed_or_a_key_none_is_sent(chat: Chat, url: str) -> None:
    ask(plan_of(url), prompts(1))
    assert "seed" not in chat.asked[0]
    assert "top_p" not in chat.asked[0]
    assert "authorization" not in chat.headers[0]


def test_an_answer_that_was_cut_off_is_marked(chat: Chat, url: str) -> None:
    chat.extra = {"choice": {"finish_reason": "length"}}
    assert [answer.finish for answer in ask(plan_of(url), prompts(1))] == ["length"]


REASONING = {
    "a field of its own, as DeepSeek sends it": {"content": "42", "reasoning_content": "6 x 7\nis 42"},
    "a field of its own, as newer servers send it": {"content": "42", "reasoning": "6 x 7\nis 42"},
    "tags within the text": {"content": "<think>\n6 x 7\nis 42\n</think>\n\n42"},
    "a closing tag alone, where the template opened it": {"content": "6 x 7\nis 42\n</think>\n\n42"},
}


@pytest.mark.parametrize("how", REASONING)
def test_reasoning_is_kept_apart_from_the_answer(how: str, chat: Chat, url: str) -> None:
    chat.extra = {"message": REASONING[how]}
    [answer] = ask(plan_of(url), prompts(1))
    assert (answer.text, answer.reasoning) == ("42", "6 x 7\nis 42")


def test_reasoning_that_was_cut_off_before_the_answer_is_marked_and_kept(chat: Chat, url: str) -> None:
    chat.extra = {"message": {"content": None, "reasoning_content": "hm"}, "choice": {"finish_reason": "length"}}
    [answer] = ask(plan_of(url), prompts(1))
    assert (answer.text, answer.reasoning, answer.finish) == ("", "hm", "length")


def test_log_probabilities_come_with_the_answer(chat: Chat, url: str) -> None:
    top = [{"token": "四", "logprob": -0.25, "bytes": None}, {"token": "4", "logprob": -1.5, "bytes": [52]}]
    chat.extra = {"choice": {"logprobs": {"content": [{"token": "四", "logprob": -0.25, "top_logprobs": top}]}}}
    [answer] = ask(plan_of(url, top_logprobs=2), prompts(1))
    assert answer.top_logprobs == (TokenChoice("四", -0.25, (("四", -0.25), ("4", -1.5))),)
    assert (chat.asked[0]["logprobs"], chat.asked[0]["top_logprobs"]) == (True, 2)


def test_a_server_without_log_probabilities_is_said_to_be_one(url: str) -> None:
    with pytest.raises(Unsupported, match="gives no log-probabilities") as refused:
        ask(plan_of(url, top_logprobs=2), prompts(1))
    assert refused.value.exit_code == 2


def test_cost_follows_from_tokens_and_prices(url: str) -> None:
    [answer] = ask(plan_of(url, price_in=2.0, price_out=8.0), prompts(1))
    assert answer.cost == pytest.approx(10 * 2e-6 + 20 * 8e-6)


def test_an_answer_without_a_count_of_tokens_costs_the_most_it_can_have_cost(chat: Chat, url: str) -> None:
    chat.extra = {"usage": None}
    [answer] = ask(plan_of(url, price_out=1e6, max_tokens=7), prompts(1))
    assert (answer.usage, answer.cost) == (None, 7.0)


# --- what may pass is asked again --------------------------------------------------------------------------------

PASSING = [
    "status:429", "status:500", "status:502:<html><body>Bad Gateway</body></html>", "status:503", "status:504",
    "status:408", "later:0", "reset", "chunks", "short", "raw:", "raw:<html><body>Welcome</body></html>", "raw:{",
    'raw:{"choices": []}', 'raw:{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}',
    'raw:{"error": {"message": "overloaded", "type": "server_error"}}', "raw:\udcff\udcfe", "raw:" + "[" * 100_000,
    'raw:{"choices": [{"message": {"content": "\\ud83d"}, "finish_reason": "stop"}]}', "status:204",
    'reply:{"message": {"content": ""}}', 'reply:{"message": {"content": null}}',
    'reply:{"choice": {"finish_reason": null}}', 'reply:{"choice": {"finish_reason": "insufficient_system_resource"}}',
    'reply:{"usage": {"prompt_tokens": -1, "completion_tokens": 1}}',
    'reply:{"choice": {"logprobs": {"content": [{"token": "a", "logprob": NaN}]}}}',
]  # fmt: skip


@pytest.mark.parametrize("fault", PASSING, ids=[fault[:60] for fault in PASSING])
def test_a_failure_that_may_pass_costs_no_sample(fault: str, chat: Chat, url: str) -> None:
    chat.faults = [fault, fault]
    answers = ask(plan_of(url), prompts(5))
    assert sorted(answer.text for answer in answers) == [f"answer to question {number}" for number in range(5)]
    assert len(chat.asked) == 7


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_an_answer_that_does_not_come_in_time_is_asked_for_again(fault: str, chat: Chat, url: str) -> None:
    chat.faults = [fault]
    answers = ask(plan_of(url, timeout_s=0.4), prompts(3))
    assert len(answers) == 3


REPORTED = {
    "an empty answer": 'reply:{"message": {"content": ""}}',
    "an error in place of an answer: overloaded": 'raw:{"error": {"message": "overloaded"}}',
    "Welcome to nginx": "raw:<html><style>b {}</style><body>Welcome to <b>nginx</b></body></html>",
    "broken off": 'reply:{"choice": {"finish_reason": null}}',
    "the connection broke": "reset",
    "answers 503: come back": 'status:503:{"error": {"message": "come back"}}',
}


@pytest.mark.parametrize("says", REPORTED)
def test_a_failure_that_stays_is_reported_with_the_prompt_and_what_came(says: str, chat: Chat, url: str) -> None:
    chat.faults = [REPORTED[says]] * 4
    with pytest.raises(EnvironmentUnfit, match=says) as failed:
        ask(plan_of(url, concurrency=1), prompts(1))
    assert "the prompt p0 in 4 tries" in failed.value.message
    assert failed.value.exit_code == 5
    assert failed.value.hint
    assert len(chat.asked) == 4


def test_nobody_there_is_reported_after_the_last_try() -> None:
    with pytest.raises(EnvironmentUnfit, match="cannot be reached"):
        ask(plan_of("http://127.0.0.1:9/v1"), prompts(1))


def test_retry_after_holds_for_every_request_and_then_all_goes_on(chat: Chat, url: str) -> None:
    chat.faults = ["later:1"]
    answers = ask(plan_of(url), prompts(12))
    assert len(answers) == 12
    pauses = [after - before for before, after in zip(chat.at, chat.at[1:], strict=False)]
    assert 0.8 < max(pauses) < 2
    assert sum(pause > 0.5 for pause in pauses) == 1


def test_a_pause_without_end_is_an_error_at_once(chat: Chat, url: str) -> None:
    chat.faults = ["later:86400"]
    with pytest.raises(EnvironmentUnfit, match="to come back in 86400 s"):
        ask(plan_of(url), prompts(1))
    assert len(chat.asked) == 1


def test_requests_keep_the_rate(chat: Chat, url: str) -> None:
    ask(plan_of(url, requests_per_minute=600), prompts(6))
    assert chat.at[-1] - chat.at[0] == pytest.approx(0.5, abs=0.15)


# --- what will not pass is refused at once -----------------------------------------------------------------------

REFUSED = {400: "the prompt", 401: "api_key_file", 403: "api_key_file", 404: "teacher_http.url", 422: "teacher_http"}


@pytest.mark.parametrize("status", REFUSED)
def test_a_refusal_is_not_repeated_and_says_what_to_mend(status: int, chat: Chat, url: str) -> None:
    chat.faults = [f'status:{status}:{{"error": {{"message": "模型说不 because"}}}}']
    with pytest.raises(PlanError, match=f"answers {status}: 模型说不 because") as refused:
        ask(plan_of(url, concurrency=1), prompts(3))
    assert REFUSED[status] in refused.value.hint
    assert refused.value.exit_code == 2
    assert len(chat.asked) == 1


def test_an_account_without_money_is_no_fault_of_the_plan(chat: Chat, url: str) -> None:
    chat.faults = ['status:402:{"error": {"message": "Insufficient Balance"}}']
    with pytest.raises(EnvironmentUnfit, match="Insufficient Balance") as refused:
        ask(plan_of(url, concurrency=1), prompts(1))
    assert refused.value.exit_code == 5
    assert len(chat.asked) == 1


def test_a_server_that_repeats_the_key_does_not_get_it_into_the_error(chat: Chat, url: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    chat.faults = [f'status:401:{{"error": {{"message": "bad key {KEY}"}}}}']
    with pytest.raises(PlanError, match=r"bad key \*\*\*") as refused:
        ask(plan_of(url, api_key_file=tmp_path / "key", concurrency=1), prompts(1))
    assert KEY not in json.dumps(refused.value.as_record())


@pytest.mark.parametrize("target", ["http://localhost:1/v1/chat/completions", "/elsewhere"])
def test_no_redirect_is_followed(target: str, chat: Chat, url: str) -> None:
    chat.faults = [f"moved:{target}"]
    with pytest.raises(PlanError, match="which the plan does not name") as refused:
        ask(plan_of(url, concurrency=1), prompts(1))
    assert target in refused.value.message
    assert len(chat.asked) == 1


def test_an_answer_without_end_is_not_read(chat: Chat, url: str) -> None:
    chat.faults = ["big:5"]
    with pytest.raises(EnvironmentUnfit, match="more than 2 MB"):
        ask(plan_of(url, max_answer_mb=2, concurrency=1), prompts(1))


def test_answers_under_way_are_handed_on_before_the_error(chat: Chat, url: str) -> None:
    chat.delay = 0.2
    chat.faults = ["", "", "status:400:no"]
    came: list[str] = []
    with pytest.raises(PlanError):
        came.extend(answer.prompt_id for answer in HttpTeacher().answers(plan_of(url), prompts(50)))
    assert len(came) == len(chat.paid) == 3


# --- encryption --------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "teacher")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "server.pem"
    path.write_bytes(made.public_bytes(pem) + secret)
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(chat: Chat, certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with chat_server(chat, tls=tls) as url:
        began = time.monotonic()
        with pytest.raises(EnvironmentUnfit, match=r"certificate of https://127\.0\.0\.1") as refused:
            ask(plan_of(url, backoff_s=5.0, max_backoff_s=5.0), prompts(1))
        assert time.monotonic() - began < 3
        assert "ca_file" in refused.value.hint
        assert chat.asked == []
        assert len(ask(plan_of(url, ca_file=certificate), prompts(2))) == 2


# --- budget ------------------------------------------------------------------------------------------------------


def test_the_budget_stops_before_the_request_that_could_exceed_it(chat: Chat, url: str) -> None:
    """An answer costs 20 x 0.1 = 2, and might cost 30 x 0.1 = 3: of 10, four are bought, for a fifth might make 11."""
    plan = plan_of(url, price_out=1e5, max_tokens=30, budget=10.0)
    came: list[Completion] = []
    with pytest.raises(Refused) as refused:
        came.extend(HttpTeacher().answers(plan, prompts(9)))
    assert len(came) == len(chat.asked) == 4
    assert sum(answer.cost for answer in came) == pytest.approx(8)
    assert "8 of 10 USD are spent, and the next answer may cost 3" in refused.value.message
    assert "4 prompts were answered now, 5 are left" in refused.value.message
    assert refused.value.exit_code == 3


def test_what_earlier_runs_spent_counts(chat: Chat, url: str) -> None:
    plan = plan_of(url, price_out=1e5, max_tokens=30, budget=10.0)
    with pytest.raises(Refused, match="9 of 10"):
        ask(plan, prompts(3), spent=9.0)
    assert chat.asked == []


def test_a_lost_answer_counts_as_paid_for(chat: Chat, url: str) -> None:
    """The connection breaks after the request: 3 may have been billed; 10 - 3 leaves room for three answers."""
    chat.faults = ["reset"]
    plan = plan_of(url, price_out=1e5, max_tokens=30, budget=10.0, concurrency=1)
    with pytest.raises(Refused, match="9 of 10 USD are spent"):
        ask(plan, prompts(9))
    assert len(chat.paid) == 3


def test_a_request_that_was_turned_away_costs_nothing(chat: Chat, url: str) -> None:
    chat.faults = ["status:429", "status:503"] * 2
    plan = plan_of(url, price_out=1e5, max_tokens=30, budget=10.0, max_retries=9)
    with pytest.raises(Refused, match="8 of 10 USD are spent"):
        ask(plan, prompts(9))


def test_room_for_the_dearest_prompt_is_judged_by_its_bytes(chat: Chat, url: str) -> None:
    """A Chinese character has three bytes and so at most three tokens: 3 x 100 x 0.01 = 3 and a little for the form."""
    plan = plan_of(url, price_in=1e4, budget=3.0)
    with pytest.raises(Refused):
        ask(plan, [Prompt.of("p", "问" * 100)])
    assert chat.asked == []


# --- reading and closing -----------------------------------------------------------------------------------------


def test_prompts_are_read_only_as_answers_are_taken(chat: Chat, url: str) -> None:
    read: list[int] = []

    def endless() -> Iterator[Prompt]:
        for number in range(10**9):
            read.append(number)
            yield Prompt.of(f"p{number}", "?")

    answers = HttpTeacher().answers(plan_of(url, concurrency=2), endless())
    for _ in range(3):
        next(answers)
    time.sleep(0.3)
    answers.close()
    assert len(chat.paid) <= len(read) <= 3 + 4


def test_no_more_are_paid_for_and_not_done_with_than_are_asked_at_a_time(chat: Chat, url: str) -> None:
    """A slow consumer is done with an answer when it asks for the next: a kill loses no more than `concurrency`."""
    answers = HttpTeacher().answers(plan_of(url, concurrency=2), prompts(20))
    for done_with in range(6):
        next(answers)
        time.sleep(0.1)
        assert len(chat.paid) <= done_with + 2
    answers.close()


def test_closing_ends_what_is_under_way(chat: Chat, url: str) -> None:
    chat.faults = ["", "hang", "hang", "hang"]
    answers = HttpTeacher().answers(plan_of(url, timeout_s=60), prompts(4))
    next(answers)
    began = time.monotonic()
    answers.close()
    assert time.monotonic() - began < 2


def test_closing_does_not_wait_for_a_source_that_is_stuck(url: str) -> None:
    gate = threading.Event()

    def stuck() -> Iterator[Prompt]:
        yield prompts(1)[0]
        gate.wait(30)

    answers = HttpTeacher().answers(plan_of(url), stuck())
    next(answers)
    began = time.monotonic()
    answers.close()
    assert time.monotonic() - began < 2
    gate.set()


def test_an_error_of_the_source_of_prompts_reaches_who_asked(url: str) -> None:
    def broken() -> Iterator[Prompt]:
        yield prompts(1)[0]
        raise ZeroDivisionError("of the source")

    with pytest.raises(ZeroDivisionError, match="of the source"):
        ask(plan_of(url), broken())


def test_no_prompts_no_answers(url: str) -> None:
    assert ask(plan_of(url), []) == []


# --- settings, identity, secrets ---------------------------------------------------------------------------------

BAD_SETTINGS: dict[str, dict[str, Any]] = {
    "names a server": {"url": "teacher.example/v1"},
    "holds no user, password": {"url": "https://user:secret@teacher.example/v1"},
    "query or fragment": {"url": "https://teacher.example/v1?key=secret"},
    "not encrypted": {"url": "http://teacher.example/v1"},
    "[Pp]ort": {"url": "https://teacher.example:99999/v1"},
    "a budget needs price_in": {"budget": 5},
    "greater than or equal to 1": {"concurrency": 0},
    "unknown key teacher_http.api_key": {"api_key": "secret"},
}


@pytest.mark.parametrize("says", BAD_SETTINGS)
def test_settings_that_cannot_be_are_refused_by_the_plan(says: str) -> None:
    with pytest.raises(PlanError, match=says) as refused:
        plan_of(**{"url": "https://teacher.example/v1", **BAD_SETTINGS[says]})
    assert "secret" not in refused.value.message


@pytest.mark.parametrize("missing", ["url", "model"])
def test_a_plan_that_names_no_server_or_no_model_is_refused(missing: str) -> None:
    plan = plan_of("https://teacher.example/v1", **{missing: ""}) if missing == "model" else plan_of("")
    with pytest.raises(PlanError, match=f"needs teacher_http.{missing}"):
        HttpTeacher().record(plan)


def test_plain_http_is_allowed_here_and_where_the_plan_says_so() -> None:
    assert plan_of("http://localhost:8000/v1")
    assert plan_of("http://[::1]:8000/v1")
    assert plan_of("http://teacher.example/v1", plain_http=True)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot read"), (b"\n", "is empty"), (b"a key", "no key"), ("钥".encode(), "no key")]
)
def test_a_key_that_cannot_be_read_is_refused_before_anything_is_asked(
    content: bytes | None, says: str, chat: Chat, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PlanError, match=says) as refused:
        HttpTeacher().check(plan_of(url, api_key_file=path), prompts(1))
    assert "api_key_file" in refused.value.hint
    assert chat.asked == []


def test_the_key_is_in_no_plan_record_or_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    plan = plan_of("https://teacher.example/v1", api_key_file=tmp_path / "key")
    teacher = HttpTeacher()
    shown = f"{plan.model_dump_json()} {plan!r} {teacher!r} {teacher.record(plan)} {teacher.sampling(plan)}"
    assert KEY not in shown


def test_another_model_or_endpoint_is_another_teacher_and_a_changed_pace_is_none() -> None:
    teacher, plan = HttpTeacher(), plan_of("https://teacher.example/v1")
    same = plan_of("https://teacher.example/v1/chat/completions", concurrency=64, price_out=3.0, timeout_s=9.0)
    assert teacher.fingerprint(plan) == teacher.fingerprint(same)
    others = [plan_of("https://teacher.example/v1", model="wise-2"), plan_of("https://other.example/v1")]
    assert len({teacher.fingerprint(one) for one in (plan, *others)}) == 3
    assert teacher.sampling(plan) == Sampling(0.6, 1.0, 4096, None, 0)


def test_the_licence_is_what_the_user_states_and_otherwise_refused() -> None:
    teacher = HttpTeacher()
    stated = teacher.record(plan_of("https://teacher.example/v1", licence="mit"))
    assert (stated.licence, stated.distillation, stated.id) == ("MIT", "allowed", "http:wise-1@teacher.example")
    for licence in ("", "Proprietary"):
        plan = plan_of("https://teacher.example/v1", licence=licence)
        assert teacher.record(plan).distillation == "unknown"
        with pytest.raises(Refused):
            check_licence(plan, teacher)


def test_the_teacher_with_log_probabilities_must_be_told_how_many(url: str) -> None:
    teacher = HttpTeacher("http-logprobs", gives=frozenset({"text", "response"}))
    with pytest.raises(ToolkitError, match="how many tokens"):
        teacher.check(plan_of(url, "http-logprobs"), prompts(1))
    teacher.check(plan_of(url, "http-logprobs", top_logprobs=20), prompts(1))


def test_the_readme_names_every_key() -> None:
    readme = (Path(__file__).parents[2] / "plugins/teacher-http/README.md").read_text(encoding="utf-8")
    assert [key for key in HttpSettings.model_fields if f"`{key}`" not in readme] == []

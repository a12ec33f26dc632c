"""Domain `counting`: what comes after a word. Answers are one word, so little need be written."""

from toolkit.hookspecs import hookimpl
from toolkit.plan import Options, Plan, TextPlan


@hookimpl
def draft_plan(options: Options) -> Plan:
    """Short samples, short answers."""
    text = TextPlan(max_tokens=48, answer_tokens=8)
    return Plan(domain=options.domain, task="text_generation", text=text)

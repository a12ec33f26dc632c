"""Which numbers a solution may use though the problem does not give them, and the words that must stand for them.

A 7 is harmless where the problem speaks of a week, a 2 where it says "half"; anywhere else it is a number out of
nowhere, and the row is left out. It knows words, not sentences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

_HALF = r"half|halv\w+|twice|doubl\w*|couple|pairs?|both|either|twins?"
_TRIP = r"round[- ]trip|back and forth|to and from|each way|both ways|return\w*|and back|back home"
_YEAR = r"years?|yearly|annual\w*|per annum"
_MONTH = r"months?|monthly"
_WEEK = r"weeks?|weekly|daily|every ?day|each day|a day|per day|days"
_LONG = "January|March|May|July|August|October|December"
_SHORT = "April|June|September|November"

_CUES: Mapping[str, str] = MappingProxyType(
    {
        "2": rf"{_HALF}|{_TRIP}|two|semi\w*|bi-?weekly|bi-?monthly|weekends?|pints?|quarts?|nicke?ls?|as much again",
        "3": r"thirds?|tripl\w*|thrice|three|trio|yards?|feet|foot|tricycles?|triangles?",
        "4": rf"quarters?|quarterly|fourths?|quadrupl\w*|four|{_MONTH}|gallons?|squares?|rectang\w*",
        "5": r"fifths?|quintupl\w*|five|nickels?|weekdays?|work ?week|workdays?|school days?|Monday",
        "6": r"sixths?|six|half (?:a )?dozen|half-dozen",
        "7": rf"sevenths?|seven|{_WEEK}",
        "8": r"eighths?|eight|pints?|quarts?|gallons?",
        "9": "ninths?|nine",
        "10": r"tenths?|ten|decades?|dimes?|mm|millimet\w+|cm|centimet\w+",
        "12": rf"dozens?|twelve|{_YEAR}|{_MONTH}|inch(?:es)?|feet|foot|noon|midnight|[ap]\.?m\.?",
        "14": "fortnights?|two weeks",
        "15": "quarter of an hour|quarter hour",
        "16": "ounces?|oz|pounds?|lbs?",
        "20": "score|twenty",
        "24": r"days?|daily|hours?|two dozen",
        "25": "quarters?",
        "28": "February",
        "30": rf"{_MONTH}|{_SHORT}|half[- ](?:an?[- ])?hour|hour and a half",
        "31": rf"{_MONTH}|{_LONG}",
        "36": "yards?|three dozen",
        "40": "forty",
        "50": rf"{_HALF}",
        "52": rf"weeks?|weekly|{_YEAR}",
        "60": r"minutes?|mins?|hours?|hourly|hrs?|seconds?|mph|kph",
        "75": "three[- ]quarters",
        "90": "right angles?|hour and a half",
        "100": r"percent\w*|%|cents?|centur\w+|hundreds?|cm|centimet\w+|met(?:er|re)s?|discount|\$",
        "128": "gallons?|ounces?",
        "144": "gross",
        "180": r"triang\w+|degrees?",
        "360": r"circ\w+|degrees?",
        "365": rf"{_YEAR}|days?",
        "1000": r"thousands?|kilo\w*|kg|km|grams?|g|lit(?:er|re)s?|ml|millilit\w+|met(?:er|re)s?|tons?",
        "2000": "tons?",
        "3600": "seconds?|hours?",
        "5280": "miles?|feet",
        "1000000": "millions?",
        "0.5": rf"{_HALF}|50%|50 percent|50 cents",
        "0.25": r"quarters?|fourths?|25%|25 percent",
        "0.75": r"three[- ]quarters|three[- ]fourths|75%",
        "0.1": r"tenths?|dimes?",
        "0.05": "nickels?",
        "0.01": r"penn(?:y|ies)|cents?|percent\w*|%",
        "1.5": r"half|time[- ]and[- ]a[- ]half",
        "2.5": r"half",
        "3.5": r"half",
        "4.5": r"half",
    }
)
# Words that say a number in another way: where a solution says "half", the 2 may not be drawn anew.
_SAYING: Mapping[str, str] = MappingProxyType(
    {
        "2": rf"{_HALF}|two",
        "3": r"thirds?|tripl\w*|thrice|three|trio",
        "4": r"quarters?|fourths?|quadrupl\w*|four",
        "5": r"fifths?|quintupl\w*|five",
        "6": r"sixths?|six|half (?:a )?dozen|half-dozen",
        "7": r"sevenths?|seven|weeks?|weekly",
        "8": r"eighths?|eight",
        "10": r"tenths?|ten|decades?",
        "12": r"dozens?|twelve|years?|yearly|annual\w*",
        "24": "two dozen",
        "30": rf"{_MONTH}|half[- ](?:an?[- ])?hour",
        "50": rf"{_HALF}",
        "52": rf"{_YEAR}",
        "60": r"minutes?|hours?",
        "100": r"percent\w*|hundreds?|centur\w+",
        "365": rf"{_YEAR}",
    }
)


def _compiled(table: Mapping[str, str]) -> Mapping[Fraction, re.Pattern[str]]:
    def pattern(words: str) -> re.Pattern[str]:
        return re.compile(rf"(?<![A-Za-z])(?:{words})(?![A-Za-z])", re.IGNORECASE)

    return MappingProxyType({Fraction(value): pattern(words) for value, words in table.items()})


_CUE_PATTERNS, _SAYING_PATTERNS = _compiled(_CUES), _compiled(_SAYING)


def is_harmless(value: Fraction, question: str) -> bool:
    """Whether a solution of `question` may use `value` without its being given there."""
    pattern = _CUE_PATTERNS.get(value)
    return value == 1 or (pattern is not None and pattern.search(question) is not None)


def says(value: Fraction, text: str) -> bool:
    """Whether `text` says `value` by another word than its digits, so that the number has to stay as it is."""
    pattern = _SAYING_PATTERNS.get(value)
    return pattern is not None and pattern.search(text) is not None

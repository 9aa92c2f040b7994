"""MTOP: requests to an assistant to logical forms (Appendix D.2)."""

import re

from raysynth.downstream.formats import json_rows, parsed, tab_separated_rows
from raysynth.downstream.rows import BadRow, Pair, Row, refuse
from raysynth.downstream.splits import (
    SOURCE_TARGET_FORMATS,
    FileFormat,
    read_splits,
    source_target_columns,
    source_target_record,
)
from raysynth.fields import spec


@spec
class MTOP:
    """Requests to an assistant and their logical forms (Appendix D.2).

    Reads the official files with eight tab-separated columns (`en/train.txt`), and files with one JSON object per line
    with the fields `question`, `logical_form` and, optionally, `tokenized_question` (`json/train.json`). Either may lie
    in the folder itself.
    """

    def read(self, location: str | None, bad_row: BadRow = refuse) -> dict[str, list[Pair]]:
        """Read the pairs of each split; see `raysynth.downstream.rows`."""
        formats = [
            *(FileFormat(path, tab_separated_rows, _columns_pair) for path in ("en/{}.txt", "{}.txt", "{}.tsv")),
            *(
                FileFormat(path, json_rows, _record_pair)
                for path in ("json/{}.json", "{}.json", "json/{}.jsonl", "{}.jsonl")
            ),
            *SOURCE_TARGET_FORMATS,
        ]
        return read_splits("mtop", location, formats, bad_row)


def _columns_pair(row: Row) -> Pair | None:
    if len(row.record) == 2:
        return source_target_columns(row)
    if len(row.record) != 8:
        raise row.error(
            f"has {len(row.record)} tab-separated columns, must have 8 (as MTOP's own files) or 2 (source, target)"
        )
    names = ("question", "logical_form", "tokenized_question")
    columns = (row.record[3], row.record[6], row.record[7])
    return _record_pair(Row(row.place, dict(zip(names, columns, strict=True))))


def _record_pair(row: Row) -> Pair:
    if "source" in row.record:
        return source_target_record(row)
    utterance = mtop_words(row.text("question"))
    if "tokenized_question" in row.record:
        utterance = " ".join(_tokens(row))
    return Pair(f"{utterance} ; structured knowledge: {MTOP_INTENTS}", row.text("logical_form"))


def _tokens(row: Row) -> list[str]:
    text = row.text("tokenized_question")
    try:
        value = parsed(text)
    except ValueError:
        value = None
    match value:
        case {"tokens": [*tokens]} if all(isinstance(token, str) for token in tokens):
            return tokens
    raise row.error('the tokens must be JSON such as {"tokens": ["Call", "Ann"]}')


def mtop_words(question: str) -> str:
    """Split an utterance into MTOP's tokens, which the logical forms quote, and join them with spaces.

    The rule reproduces the published tokens of all 500 test utterances. Its words contain all but one of the 32,905
    innermost phrases of the logical forms in our copy of the data.
    """
    return " ".join(_MTOP_WORD.findall(question))


_MTOP_WORD = re.compile(
    r"\d+(?=[ap]m\b(?!\.\w))"  # 8pm is two words, 8.15am is one
    r"|(?<=[^\W\d])['\u2019]s\b"  # news's is two words, don't is one
    r"|[\w\u0300-\u036f]+(?:(?:\.|['\u2019](?!s\b))\w+)*"
    r"|[^\w\s]",
    re.IGNORECASE,
)

MTOP_INTENTS = (
    "IN:GET: MESSAGE, WEATHER, ALARM, INFO_RECIPES, STORIES_NEWS, REMINDER, RECIPES, EVENT, CALL_TIME, LIFE_EVENT, "
    "INFO_CONTACT, CONTACT, TIMER, REMINDER_DATE_TIME, AGE, SUNRISE, EMPLOYER, EDUCATION_TIME, JOB, AVAILABILITY, "
    "CATEGORY_EVENT, CALL, EMPLOYMENT_TIME, CALL_CONTACT, LOCATION, TRACK_INFO_MUSIC, SUNSET, MUTUAL_FRIENDS, "
    "UNDERGRAD, REMINDER_LOCATION, ATTENDEE_EVENT, MESSAGE_CONTACT, REMINDER_AMOUNT, DATE_TIME_EVENT, DETAILS_NEWS, "
    "EDUCATION_DEGREE, MAJOR, CONTACT_METHOD, LIFE_EVENT_TIME, LYRICS_MUSIC, AIRQUALITY, LANGUAGE, GENDER, GROUP "
    "| IN:SEND: MESSAGE | IN:SET: UNAVAILABLE, RSVP_YES, AVAILABLE, DEFAULT_PROVIDER_MUSIC, RSVP_INTERESTED, "
    "DEFAULT_PROVIDER_CALLING, RSVP_NO | IN:DELETE: REMINDER, ALARM, TIMER, PLAYLIST_MUSIC | IN:CREATE: ALARM, "
    "REMINDER, CALL, PLAYLIST_MUSIC, TIMER | IN:QUESTION: NEWS, MUSIC | IN:PLAY: MUSIC, MEDIA | IN:END: CALL "
    "| IN:IGNORE: CALL | IN:UPDATE: CALL, REMINDER_DATE_TIME, REMINDER_TODO, TIMER, METHOD_CALL, ALARM, "
    "REMINDER_LOCATION, REMINDER | IN:PAUSE: MUSIC, TIMER | IN:ANSWER: CALL | IN:SNOOZE: ALARM | IN:IS: TRUE_RECIPES "
    "| IN:REMOVE: FROM_PLAYLIST_MUSIC | IN:ADD: TIME_TIMER, TO_PLAYLIST_MUSIC | IN:SHARE: EVENT | IN:PREFER: "
    "| IN:START: SHUFFLE_MUSIC | IN:SILENCE: ALARM | IN:SWITCH: CALL | IN:SUBTRACT: TIME_TIMER | IN:PREVIOUS: "
    "TRACK_MUSIC | IN:HOLD: CALL | IN:SKIP: TRACK_MUSIC | IN:LIKE: MUSIC | IN:RESTART: TIMER | IN:RESUME: TIMER, CALL, "
    "MUSIC | IN:MERGE: CALL | IN:REPLAY: MUSIC | IN:LOOP: MUSIC | IN:STOP: MUSIC, SHUFFLE_MUSIC | IN:UNLOOP: MUSIC "
    "| IN:CANCEL: MESSAGE, CALL | IN:REWIND: MUSIC | IN:REPEAT: ALL_MUSIC, ALL_OFF_MUSIC | IN:FAST: FORWARD_MUSIC "
    "| IN:DISLIKE: MUSIC | IN:DISPREFER: | IN:HELP: REMINDER | IN:FOLLOW: MUSIC"
)
"""Appendix D.2's structured knowledge, the same for every example.

It lists the outermost intents of the training split's logical forms, grouped by their first word.
"""

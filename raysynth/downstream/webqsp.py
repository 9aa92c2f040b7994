"""WebQSP: questions over Freebase to s-expressions (Appendix D.2)."""

from collections.abc import Iterator
from pathlib import Path

from raysynth.downstream.rows import (
    READY,
    BadRow,
    Form,
    Pair,
    Row,
    json_document,
    json_lines,
    read_splits,
    ready_record,
    refuse,
)
from raysynth.errors import InputError
from raysynth.fields import spec


@spec
class WebQSP:
    """Questions with triples of Freebase around their entities, and the s-expressions that answer them (Appendix D.2).

    Read are UnifiedSKG's JSON lines with `question`, `entities`, `kg_tuples` and `s_expression` (`train.jsonl`), and
    the official `WebQSP.train.json`. The official files have neither s-expressions nor triples: the s-expression is
    made from the first parse's chain of relations, where that parse has no constraints, and the source has no triples.
    """

    def read(self, location: str | None, bad_row: BadRow = refuse) -> dict[str, list[Pair]]:
        """Pairs by split; see the module."""
        forms = [
            Form("{}.jsonl", json_lines, _webqsp_record),
            Form("webqsp_{}.jsonl", json_lines, _webqsp_record),
            Form("WebQSP.{}*.json", _webqsp_questions, _webqsp_question),
            Form("data/WebQSP.{}*.json", _webqsp_questions, _webqsp_question),
            *READY,
        ]
        splits = read_splits("webqsp", location, forms, bad_row)
        if "train" in splits:  # UnifiedSKG writes "null" for no s-expression, and leaves these out of training alone
            splits["train"] = [pair for pair in splits["train"] if pair.target != "null"]
        return splits


def _webqsp_record(row: Row) -> Pair:
    if "source" in row.record:
        return ready_record(row)
    question, target = row.text("question"), row.text("s_expression")
    for field, length in (("entities", 2), ("kg_tuples", 3)):
        if field not in row.record:
            raise row.error(f"field {field!r} is missing; the row has {', '.join(map(repr, row.record))}")
        for item in row.record[field]:
            if not isinstance(item, list) or len(item) != length or not all(isinstance(part, str) for part in item):
                raise row.error(f"field {field!r} must hold lists of {length} texts, got {item!r:.60}")
    return Pair(_with_knowledge(question, row.record["entities"], row.record["kg_tuples"]), target)


def _with_knowledge(question: str, entities: list[list[str]], triples: list[list[str]]) -> str:
    """Entities apart by a space and triples by a bar, as UnifiedSKG joins them."""
    known = " ".join(f"{name}: {machine_id}" for name, machine_id in entities)
    return f"{question} ; structured knowledge: {' | '.join([known, *map(' '.join, triples)])}"


def _webqsp_questions(file: Path) -> Iterator[Row | InputError]:
    document = json_document(file)
    questions = document.get("Questions") if isinstance(document, dict) else document
    if not isinstance(questions, list):
        raise InputError(f"{file}: must hold a list of questions or an object with the field 'Questions'")
    for number, question in enumerate(questions, start=1):
        name = question.get("QuestionId", f"number {number}") if isinstance(question, dict) else f"number {number}"
        place = f"{file}, question {name}"
        yield Row(place, question) if isinstance(question, dict) else InputError(f"{place}: not a JSON object")


def _webqsp_question(row: Row) -> Pair:
    question = row.text("RawQuestion")
    parses = row.record.get("Parses")
    if not isinstance(parses, list) or not parses or not isinstance(parses[0], dict):
        raise row.error("field 'Parses' must hold at least one parse")
    parse = Row(f"{row.place}, first parse", parses[0])
    relations = parse.record.get("InferentialChain")
    limits = [name for name in ("Constraints", "Order", "Time") if parse.record.get(name)]
    if limits or not relations:
        raise parse.error(
            f"{'has ' + ' and '.join(limits) if limits else 'has no InferentialChain'}, so that no s-expression can be "
            "made of it; UnifiedSKG's train.jsonl, dev.jsonl and test.jsonl hold s_expression and kg_tuples"
        )
    machine_id = target = parse.text("TopicEntityMid")
    for relation in relations:
        target = f"(JOIN (R {relation}) {target})"
    return Pair(_with_knowledge(question, [[parse.text("TopicEntityName"), machine_id]], []), target)

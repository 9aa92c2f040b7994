"""WebQSP: questions over Freebase to s-expressions (Appendix D.2)."""

from collections.abc import Iterator
from pathlib import Path

from raysynth.downstream.files import shown
from raysynth.downstream.formats import json_rows, read_json
from raysynth.downstream.rows import BadRow, Pair, Row, refuse
from raysynth.downstream.splits import SOURCE_TARGET_FORMATS, FileFormat, read_splits, source_target_record
from raysynth.errors import InputError, brief
from raysynth.fields import spec


@spec
class WebQSP:
    """Questions with the Freebase triples around their entities, and the s-expressions that answer them (Appendix D.2).

    Reads UnifiedSKG's `train.jsonl`, with the fields `question`, `entities`, `kg_tuples` and `s_expression`, and the
    official `WebQSP.train.json`. The official files have neither triples nor s-expressions. Their sources therefore
    have no triples, and their targets are s-expressions built from the relation chain of the first parse. A first parse
    with constraints is a bad row.
    """

    def read(self, location: str | None, bad_row: BadRow = refuse) -> dict[str, list[Pair]]:
        """Read the pairs of each split; see `raysynth.downstream.rows`."""
        formats = [
            FileFormat("{}.jsonl", json_rows, _unifiedskg_pair),
            FileFormat("webqsp_{}.jsonl", json_rows, _unifiedskg_pair),
            # Not `WebQSP.train.partial.json`, which has the questions that the annotators could not answer.
            *(
                FileFormat(f"{folder}WebQSP.{{}}{ending}.json", _official_rows, _official_pair)
                for ending in ("", ".sample")
                for folder in ("", "data/")
            ),
            *SOURCE_TARGET_FORMATS,
        ]
        splits = read_splits("webqsp", location, formats, bad_row)
        if "train" in splits:
            # UnifiedSKG writes "null" for a missing s-expression and drops those rows from the training split only.
            splits["train"] = [pair for pair in splits["train"] if pair.target != "null"]
            if not splits["train"]:
                raise InputError(f"webqsp's training split under {shown(location)} has no s_expression")
        return splits


def _unifiedskg_pair(row: Row) -> Pair:
    if "source" in row.record:
        return source_target_record(row)
    question, target = row.text("question"), row.text("s_expression")
    for field, length in (("entities", 2), ("kg_tuples", 3)):
        if field not in row.record:
            raise row.error(f"field {field!r} is missing; the row has {', '.join(map(brief, row.record))}")
        items = row.record[field] if isinstance(row.record[field], list) else [row.record[field]]
        for item in items:
            if not isinstance(item, list) or len(item) != length or not all(isinstance(part, str) for part in item):
                raise row.error(f"field {field!r} must hold lists of {length} texts, got {brief(item)}")
    return Pair(_with_knowledge(question, row.record["entities"], row.record["kg_tuples"]), target)


def _with_knowledge(question: str, entities: list[list[str]], triples: list[list[str]]) -> str:
    """A question and its knowledge as UnifiedSKG joins them: entities by spaces, triples by bars."""
    joined_entities = " ".join(f"{name}: {machine_id}" for name, machine_id in entities)
    return f"{question} ; structured knowledge: {' | '.join([joined_entities, *map(' '.join, triples)])}"


def _official_rows(file: Path) -> Iterator[Row | InputError]:
    document, _ = read_json(file)
    questions = document.get("Questions") if isinstance(document, dict) else document
    if not isinstance(questions, list):
        raise InputError(f"{shown(file)}: must hold a list of questions or an object with the field 'Questions'")
    for number, question in enumerate(questions, start=1):
        name = question.get("QuestionId", f"number {number}") if isinstance(question, dict) else f"number {number}"
        place = f"{shown(file)}, question {shown(name[:200]) if isinstance(name, str) else brief(name)}"
        yield Row(place, question) if isinstance(question, dict) else InputError(f"{place}: not a JSON object")


def _official_pair(row: Row) -> Pair:
    question = row.text("RawQuestion")
    parses = row.record.get("Parses")
    if not isinstance(parses, list) or not parses or not isinstance(parses[0], dict):
        raise row.error("field 'Parses' must hold at least one parse")
    parse = Row(f"{row.place}, first parse", parses[0])
    relations = parse.record.get("InferentialChain")
    limits = [name for name in ("Constraints", "Order", "Time") if parse.record.get(name)]
    if relations and not (isinstance(relations, list) and all(isinstance(relation, str) for relation in relations)):
        raise parse.error(f"field 'InferentialChain' must be a list of texts, got {brief(relations)}")
    if limits or not relations:
        reason = f"has {' and '.join(limits)}" if limits else "has no InferentialChain"
        raise parse.error(
            f"{reason}, so no s-expression can be built from it; UnifiedSKG's train.jsonl, dev.jsonl and test.jsonl "
            "have s_expression and kg_tuples"
        )
    machine_id = target = parse.text("TopicEntityMid")
    for relation in relations:
        target = f"(JOIN (R {relation}) {target})"
    return Pair(_with_knowledge(question, [[parse.text("TopicEntityName"), machine_id]], []), target)

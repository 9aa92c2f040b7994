"""What tells artifacts of one sweep apart that their names do not say: the model's size, and lengths of training.

Names are directories of stores and stay as they are; this is for what people read beside them.
"""

from collections.abc import Iterable

from raysynth.specs.datasets import Dataset, TextDataset
from raysynth.specs.identity import Artifact
from raysynth.specs.pretraining import Pretrain, Pretrained, SourceAt


def distinctions(artifacts: Iterable[Artifact]) -> dict[Artifact, str]:
    """By artifact, such as "d64 2+2, pre-trained 4,000 steps": only those facts in which some of the artifacts differ.

    Model sizes are compared among all artifacts of a kind, lengths and amounts among those of one task. An artifact
    without such a fact is left out.
    """
    facts = {artifact: _facts(artifact) for artifact in artifacts}
    texts: dict[tuple[str, str], set[str]] = {}
    for of_one in facts.values():
        for group, text in of_one.items():
            texts.setdefault(group, set()).add(text)
    told = {
        artifact: ", ".join(text for group, text in of_one.items() if len(texts[group]) > 1)
        for artifact, of_one in facts.items()
    }
    return {artifact: text for artifact, text in told.items() if text}


def _facts(artifact: Artifact) -> dict[tuple[str, str], str]:
    """Facts in words, by what they are compared with: a group of artifacts, and what the fact is about."""
    if isinstance(artifact, TextDataset | Pretrained):
        return {}
    if isinstance(artifact, Dataset):
        return {(f"dataset {artifact.task.name}", "examples"): f"{artifact.num_examples:,} examples"}
    facts = {(artifact.kind, "model"): artifact.model.size}
    if isinstance(artifact, Pretrain):
        group = f"{artifact.kind} {artifact.data.task.name}"
        facts[group, "steps"] = f"{artifact.num_steps:,} steps"
        facts[group, "examples"] = f"{artifact.data.num_examples:,} examples"
        return facts
    for source in artifact.init.sources:
        group = f"{artifact.kind} {artifact.task.name} {source.source_name}"
        if isinstance(source, Pretrain):  # the name of a `SourceAt` says its step
            facts[group, "source's steps"] = f"pre-trained {source.num_steps:,} steps"
        if isinstance(source, Pretrain | SourceAt):
            facts[group, "source's examples"] = f"on {source.artifact.data.num_examples:,} examples"
    facts[f"{artifact.kind} {artifact.task.name}", "steps"] = f"tuned {artifact.task.num_steps:,} steps"
    return facts

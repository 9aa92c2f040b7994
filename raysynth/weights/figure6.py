"""Figure 6 of the paper for any artifacts of a store."""

from collections.abc import Sequence
from pathlib import Path

from raysynth.errors import InputError
from raysynth.report import figures
from raysynth.store.store import Store
from raysynth.weights.selected import selected
from raysynth.weights.statistics import attention_norm_means


def draw_layer_norms(artifacts: Sequence[str], store: Store, out: Path) -> list[Path]:
    """Draw the mean pre-attention layer norms of artifacts by layer; returns the files written.

    An artifact is its name in the store or LABEL=name. The suffix of `out` is the format; without one, a PNG and an SVG
    are written. Raises `InputError` for lines with the same label, weights that cannot be read and files that cannot be
    written.
    """
    files = figures.output_files(out)  # checked before the weights are read, which takes longer
    parts = (artifact.rpartition("=") for artifact in artifacts)
    labels_by_name = {name.strip("/"): label for label, _, name in parts}
    legends = figures.legends(labels_by_name)
    labels = [label or legend for label, legend in zip(labels_by_name.values(), legends, strict=True)]
    for label in labels:
        if [*labels, figures.RANDOM].count(label) > 1:
            raise InputError(f"two lines would be called {label!r}; write LABEL=ARTIFACT for one of them")
    means = [attention_norm_means(selected(name, store).flat) for name in labels_by_name]
    for file in files:
        _write(file, figures.norms_by_layer(dict(zip(labels, means, strict=True)), file_format=file.suffix[1:]))
    return list(files)


def _write(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from None

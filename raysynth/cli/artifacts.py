"""Verbs on the artifacts of a store: list, verify, predictions, predict, why, import, export, stats, figure6.

JAX is imported by the verbs that need it.
"""

import argparse
import sys
from typing import BinaryIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from raysynth import verify
from raysynth.cli.options import add_artifacts, add_store, complete
from raysynth.command_line import Verbs, add_verb, integer, path, positive, text
from raysynth.downstream.files import opened
from raysynth.errors import InputError, printable, unknown
from raysynth.report.listing import STATES, print_list
from raysynth.report.predictions import print_predictions
from raysynth.report.tables import as_csv
from raysynth.report.why import print_why
from raysynth.specs.finetuning import Finetune
from raysynth.specs.init_schemes import GroupBy
from raysynth.specs.models import Dtype, T5Config
from raysynth.specs.pretraining import published_models
from raysynth.store.marks import Watch
from raysynth.store.store import KINDS, Store


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    for add in (
        _add_list,
        _add_verify,
        _add_predictions,
        _add_predict,
        _add_why,
        _add_import,
        _add_export,
        _add_stats,
        _add_figure6,
    ):
        add(verbs)


# -------------------------------------------------------------------------------- list


def _add_list(verbs: Verbs) -> None:
    parser = add_verb(verbs, "list", _list, "list the artifacts of a store with their states")
    add_store(parser)
    several = "; several with commas between them"
    kind = parser.add_argument("--kind", type=_several, default=(), help=f"of {', '.join(KINDS)}{several}")
    complete(kind, lambda **_: KINDS)
    parser.add_argument("--task", type=_several, default=(), help=f"a synthetic or downstream task{several}")
    parser.add_argument("--init", type=_several, default=(), help=f"an init scheme, such as full or set.full{several}")
    state = parser.add_argument("--state", type=_several, default=(), help=f"of {', '.join(STATES)}{several}")
    complete(state, lambda **_: STATES)
    parser.add_argument("--text", default="", help="a part of the name, or of the reason of a failure")


def _several(argument: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text(argument).split(","))


def _list(options: argparse.Namespace) -> int:
    print_list(
        Store(options.store),
        kinds=options.kind,
        tasks=options.task,
        inits=options.init,
        states=options.state,
        text=options.text,
    )
    return 0


# -------------------------------------------------------------------------------- verify


def _add_verify(verbs: Verbs) -> None:
    summary = "check that everything in a store is as it was written; status 1 if anything is not"
    parser = add_verb(verbs, "verify", _verify, summary)
    add_store(parser)
    parser.add_argument("--deep", action="store_true", help="read the contents of all files too, not only their sizes")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="set aside what is damaged, below set-aside/ in the store, and delete what killed runs left behind",
    )


def _verify(options: argparse.Namespace) -> int:
    store = Store(options.store)
    if not store.has_root:
        raise InputError(f"there is no store at {store.uri}")
    if options.repair:
        store.check_writable()
        verify.check_unused(store, lambda line: print(line, file=sys.stderr))
    in_use = verify.others(store, Watch())
    if in_use:
        print(f"process {in_use[0].pid} on {in_use[0].host} works on the store: what it makes is left out")
    findings = _findings(store, in_use=bool(in_use), deep=options.deep)
    if not findings:
        print(f"{store.uri}: all is well{'' if options.deep else ' (sizes only; --deep reads the contents too)'}")
        return 0
    table = Table("artifact", "problem", "remedy", box=SIMPLE_HEAD)
    for finding in findings:
        table.add_row(Text(printable(finding.place)), Text(printable(finding.problem)), Text(printable(finding.remedy)))
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)
    return _repair(findings, store) if options.repair else 1


_WIDTH = 240
"""Characters of a line where the output is no terminal."""


def _findings(store: Store, *, in_use: bool, deep: bool) -> list[verify.Finding]:
    if not deep:
        return list(verify.findings(store, verify.Reading(), in_use=in_use))
    console = Console(file=sys.stderr)
    columns = TextColumn("reading"), BarColumn(bar_width=None), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=verify.num_bytes(store))
        reading = verify.DeepReading(lambda count: progress.advance(task, count))
        return list(verify.findings(store, reading, in_use=in_use))


def _repair(findings: list[verify.Finding], store: Store) -> int:
    """Do what the remedies say; returns 1 if one of them needs a person."""
    status = 0
    for finding in findings:
        try:
            print(verify.repair(finding, store))
        except InputError as error:
            status = 1
            print(f"error: {error}", file=sys.stderr)
    return status


# -------------------------------------------------------------------------------- predictions and descriptions


def _add_predictions(verbs: Verbs) -> None:
    parser = add_verb(verbs, "predictions", _predictions, "print the test predictions of a finished fine-tuning")
    add_artifacts(parser, "artifact", "RUN", (Finetune.kind,))
    add_store(parser)
    parser.add_argument("-n", "--num-examples", type=integer, help="print at most this many (default: all)")
    parser.add_argument("--only", choices=("right", "wrong"), help="print right or wrong predictions only")


def _predictions(options: argparse.Namespace) -> int:
    right = None if options.only is None else options.only == "right"
    print_predictions(options.artifact, Store(options.store), num_examples=options.num_examples, right=right)
    return 0


def _add_predict(verbs: Verbs) -> None:
    parser = add_verb(verbs, "predict", _predict, "print the output of a trained model for each text, one a line")
    add_artifacts(parser, "artifact", "RUN")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="an input; - reads lines from standard input")
    parser.add_argument("--file", metavar="FILE", type=path, help="read further inputs from its lines")
    parser.add_argument(
        "--beams", type=positive, metavar="N", help="number of beams; 1 is greedy (default: the recipe's)"
    )
    parser.add_argument("--length-penalty", type=float, metavar="ALPHA", help="of beams (default: as the recipe)")
    add_store(parser)


def _predict(options: argparse.Namespace) -> int:
    texts = [
        line for argument in options.texts for line in (_lines(sys.stdin.buffer) if argument == "-" else [argument])
    ]
    if options.file is not None:
        with opened(options.file) as stream:
            texts += _lines(stream)
    if not texts:
        raise InputError("predict needs a TEXT, - for standard input, or --file")
    from raysynth.weights.loading import load

    model = load(options.artifact, store=options.store)
    for output in model.generate(texts, num_beams=options.beams, length_penalty=options.length_penalty):
        print(printable(output))
    return 0


def _lines(stream: BinaryIO) -> list[str]:
    """The lines of UTF-8 text, blank ones too, so that line n of the output belongs to line n of the input."""
    try:
        return stream.read().decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"the inputs must be UTF-8, got another byte at {error.start + 1}") from None


def _add_why(verbs: Verbs) -> None:
    parser = add_verb(verbs, "why", _why, "list the fields in which two artifacts of a store differ")
    add_artifacts(parser, "first", "ARTIFACT", KINDS)
    add_artifacts(parser, "second", "OTHER", KINDS, help="another one, named alike")
    add_store(parser)


def _why(options: argparse.Namespace) -> int:
    print_why(options.first, options.second, Store(options.store))
    return 0


# -------------------------------------------------------------------------------- weights in and out


def _add_import(verbs: Verbs) -> None:
    parser = add_verb(verbs, "import", _import, "import a T5X or Hugging Face checkpoint into a store")
    parser.add_argument("path", metavar="DIR", type=path, help="a T5X or Hugging Face directory")
    parser.add_argument("--name", required=True, help=f"{', '.join(published_models)}, or a name of your own")
    add_store(parser)
    parser.add_argument(
        "--model",
        choices=("published", "found"),
        default="published",
        help="the expected shape: the published one of that name (default), or for a model of your own the one in DIR",
    )
    parser.add_argument(
        "--dtype",
        choices=list(Dtype),
        default=Dtype.DEVICE,
        help="of activations in fine-tuning (default: device)",
    )


def _import(options: argparse.Namespace) -> int:
    from raysynth.weights.transfer import import_weights

    expected = _published(options.name) if options.model == "published" else None
    import_weights(options.path, options.name, Store(options.store), expected=expected, dtype=Dtype(options.dtype))
    return 0


def _published(model: str) -> T5Config:
    if model not in published_models:
        raise InputError(f"{unknown('pretrained model', model, published_models)}; your own takes --model found")
    return published_models[model]


def _add_export(verbs: Verbs) -> None:
    parser = add_verb(verbs, "export", _export, "write an artifact's weights as a T5X or Hugging Face directory")
    add_artifacts(parser, "artifact", "ARTIFACT")
    add_store(parser)
    parser.add_argument("--format", choices=("t5x", "hugging-face"), required=True)
    _add_step(parser)
    parser.add_argument("out", metavar="OUT", type=path, help="a directory that does not exist yet")


def _export(options: argparse.Namespace) -> int:
    from raysynth.weights.formats import Format
    from raysynth.weights.transfer import export_weights

    export_weights(options.artifact, Store(options.store), Format(options.format), options.out, step=options.step)
    print(printable(str(options.out)))
    return 0


def _add_step(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--step", type=integer, help="one of the keep_steps of a pre-training (default: the selected)")


# -------------------------------------------------------------------------------- what weights are like


def _add_stats(verbs: Verbs) -> None:
    parser = add_verb(verbs, "stats", _stats, "print the statistics of an artifact's weights")
    add_artifacts(parser, "artifact", "ARTIFACT")
    add_store(parser)
    parser.add_argument(
        "--by",
        choices=[group.value for group in GroupBy],
        default=GroupBy.TYPE.value,
        help="group parameters as the init schemes do (default: type)",
    )
    parser.add_argument("--format", choices=("table", "csv"), default="table", help="csv prints all digits")
    _add_step(parser)


def _stats(options: argparse.Namespace) -> int:
    from raysynth.weights.selected import selected
    from raysynth.weights.statistics import moments, spreadsheet, table

    group_by = GroupBy(options.by)
    weights = selected(options.artifact, Store(options.store), step=options.step)
    groups = moments(weights.flat, group_by)
    if options.format == "csv":
        print(as_csv(*spreadsheet(groups, group_by)), end="")
    else:
        print(f"{printable(weights.artifact)}, step {weights.step:,}\n")
        print(table(groups, group_by))
    return 0


def _add_figure6(verbs: Verbs) -> None:
    parser = add_verb(verbs, "figure6", _figure6, "draw the mean pre-attention layer norms by layer, as in Figure 6")
    usage = "names, which may be cut too; LABEL is for the legend"
    add_artifacts(parser, "artifacts", "[LABEL=]ARTIFACT", nargs="+", help=usage)
    add_store(parser)
    parser.add_argument(
        "--out", metavar="FILE", type=path, required=True, help="a .png or .svg file; without a suffix, one of each"
    )


def _figure6(options: argparse.Namespace) -> int:
    from raysynth.weights.figure6 import draw_layer_norms

    for file in draw_layer_norms(options.artifacts, Store(options.store), options.out):
        print(printable(str(file)))
    return 0

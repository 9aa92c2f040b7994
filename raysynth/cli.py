"""The `raysynth` command: tasks, data, predictions, weights in and out and what they are like, clusters."""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from raysynth.data import shard_files, show
from raysynth.data.locations import locations
from raysynth.downstream.fetch import fetch, publishers
from raysynth.downstream.rows import BadRows
from raysynth.errors import InputError, exit_status, unknown
from raysynth.report import figures, tables
from raysynth.run import cluster
from raysynth.specs.catalog import downstream_tasks, text_corpora
from raysynth.specs.datasets import Dataset, TextCorpus, TextDataset
from raysynth.specs.identity import describe, name
from raysynth.specs.init_schemes import GroupBy
from raysynth.specs.models import Dtype, T5Config
from raysynth.specs.pretraining import Pretrained, pretrained, published_models
from raysynth.store import leases
from raysynth.store.marks import provenance
from raysynth.store.store import State, Store, differences
from raysynth.synthetic.base import SyntheticTask
from raysynth.synthetic.catalog import synthetic_tasks
from raysynth.weights.formats import Format, detect, read
from raysynth.weights.hugging_face import write_hugging_face
from raysynth.weights.statistics import attention_norm_means, moments, spreadsheet, table

TASKS = (*synthetic_tasks, *text_corpora, *downstream_tasks)
"""What `show` and `generate` take."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="raysynth", description="Synthetic pre-training: tasks, data, weights.")
    commands = parser.add_subparsers(dest="command", required=True)

    shown = commands.add_parser("show", help="print examples of a task for reading")
    shown.add_argument("task", help=f"one of {', '.join(TASKS)}")
    shown.add_argument("-n", "--num-examples", type=int, default=3, help="so many of them (default: 3)")
    shown.add_argument("--seed", type=_natural, default=0, help="other seeds give other examples (default: 0)")
    shown.add_argument("--data", metavar="PATH", help="of a text corpus or a downstream task: its files")
    shown.add_argument("--min-length", type=int, help="tokens of the shortest input (default: the paper's, 10)")
    shown.add_argument("--max-length", type=int, help="tokens of the longest input (default: the paper's, 220)")
    shown.add_argument("--num-letters", type=int, help="draw from this many tokens instead of all 31,998")

    made = commands.add_parser("generate", help="write a data set of a task as Parquet shards")
    made.add_argument("task", help=f"one of {', '.join(TASKS)}")
    made.add_argument("--num-examples", type=int, help="to train on (default: 1,000,000)")
    made.add_argument("--num-validation", type=int, help="beside those (default: 10,000)")
    made.add_argument("--min-length", type=int, help="tokens of the shortest input (default: the paper's, 10)")
    made.add_argument("--max-length", type=int, help="tokens of the longest input (default: the paper's, 220)")
    made.add_argument("--seed", type=_natural, help="other seeds give other examples (default: 0)")
    made.add_argument("--store", metavar="URI", required=True, help="a directory or any URI of pyarrow's file systems")
    made.add_argument("--address", help="a running Ray cluster (default: one is started on this machine)")
    made.add_argument(
        "--data", metavar="TASK=PATH", action="append", default=[], help="where a downstream task's files are"
    )
    made.add_argument(
        "--skip-bad-rows", action="store_true", help="leave out and count rows of those files that cannot be read"
    )

    fetched = commands.add_parser("fetch", help="download a downstream task's files from their publisher")
    fetched.add_argument("task", help=f"one of {', '.join(publishers)}")
    fetched.add_argument("--into", metavar="DIR", type=Path, required=True)

    told = commands.add_parser("predictions", help="print what a finished fine-tuning said on the test split")
    told.add_argument("run", metavar="RUN", help="its name in the store, such as finetune/mtop.random.lr0.001.seed0-3b")
    told.add_argument("--store", metavar="URI", required=True)
    told.add_argument("-n", "--num-examples", type=int, help="print this many at most (default: all)")
    told.add_argument("--only", choices=("right", "wrong"), help="of right or wrong predictions alone")

    compared = commands.add_parser("why", help="list the fields in which two artifacts of a store differ")
    compared.add_argument("one", help="its name in the store, such as pretrain/set.seed0-3fb5a7f9")
    compared.add_argument("other")
    compared.add_argument("--store", metavar="URI", required=True)

    brought = commands.add_parser("import", help="bring a T5X or Hugging Face checkpoint into a store")
    brought.add_argument("path", metavar="DIR", type=Path, help="a T5X or Hugging Face directory")
    brought.add_argument("--name", required=True, help=f"{', '.join(published_models)}, or a name of your own")
    brought.add_argument("--store", metavar="URI", required=True)
    brought.add_argument(
        "--model",
        choices=("published", "found"),
        default="published",
        help="the shape to expect: the published one of that name, or the one found in DIR, for a model of your own",
    )
    brought.add_argument("--dtype", choices=list(Dtype), default=Dtype.DEVICE, help="of activations in fine-tuning")

    given = commands.add_parser("export", help="write an artifact's weights as a T5X or Hugging Face directory")
    given.add_argument("artifact", help="its name in the store, such as pretrain/set.seed0-3fb5a7f9")
    given.add_argument("--store", metavar="URI", required=True)
    given.add_argument("--format", choices=("t5x", "hugging-face"), required=True)
    given.add_argument("out", metavar="OUT", type=Path, help="a directory that does not exist yet")

    drawn = commands.add_parser("figure6", help="draw the mean pre-attention layer norms by layer, as in Figure 6")
    drawn.add_argument(
        "artifacts", metavar="[LABEL=]ARTIFACT", nargs="+", help="names in the store; the legend has LABEL"
    )
    drawn.add_argument("--store", metavar="URI", required=True)
    drawn.add_argument("--out", metavar="FILE", type=Path, required=True, help=".png or .svg; both without a suffix")

    counted = commands.add_parser("stats", help="print the statistics of an artifact's weights")
    counted.add_argument("artifact", help="its name in the store, such as pretrain/set.seed0-3fb5a7f9")
    counted.add_argument("--store", metavar="URI", required=True)
    counted.add_argument(
        "--by", choices=[group.value for group in GroupBy], default="type", help="the groups of the init schemes"
    )
    counted.add_argument("--format", choices=("table", "csv"), default="table", help="csv has all digits")

    launched = commands.add_parser("cluster", help="check a description of a cluster, find what a cluster left behind")
    verbs = launched.add_subparsers(dest="verb", required=True)
    for verb, told in {
        "check": "print what keeps the cluster from working as described; status 1 if anything does",
        "leftovers": "list TPU VMs that were preempted or stopped and still exist",
        "delete-leftovers": "delete those",
    }.items():
        verbs.add_parser(verb, help=told).add_argument("file", metavar="FILE", type=Path, help="such as cluster.yaml")

    options = parser.parse_args(arguments)
    return exit_status(lambda: _command(options))


def _command(options: argparse.Namespace) -> int:
    if options.command == "import":
        import_weights(options.path, options.name, options.model, Dtype(options.dtype), Store(options.store))
        return 0
    if options.command == "export":
        export_weights(options.artifact, Store(options.store), options.format, options.out)
        return 0
    if options.command == "figure6":
        draw_norms(options.artifacts, Store(options.store), options.out)
        return 0
    if options.command == "stats":
        print_statistics(options.artifact, Store(options.store), GroupBy(options.by), options.format)
        return 0
    if options.command == "cluster":
        if options.verb == "check":
            return check_cluster(options.file)
        act = delete_leftovers if options.verb == "delete-leftovers" else list_leftovers
        config = cluster.read(options.file)
        cluster.location(config)  # a file that is not filled in is told before missing credentials
        act(config, cluster.connect())
        return 0
    if options.command in ("show", "generate"):
        _check_options(options)
    if options.command == "show":
        print(_examples(options))
        return 0
    if options.command == "why":
        print(why(options.one, options.other, Store(options.store)))
        return 0
    if options.command == "fetch":
        return fetch_data(options.task, options.into)
    if options.command == "predictions":
        print_predictions(options.run, Store(options.store), options.num_examples, options.only)
        return 0
    if options.command == "generate" and options.task in downstream_tasks:
        bad_rows = BadRows.SKIP if options.skip_bad_rows else BadRows.REFUSE
        texts = downstream_tasks[options.task].data
        return generate(texts, Store(options.store), options.address, locations(options.data), bad_rows)
    if options.command == "generate" and options.task in text_corpora:
        dataset = _dataset(text_corpora[options.task], options)
        return generate(dataset, Store(options.store), options.address, locations(options.data))
    task = _with_lengths(synthetic_tasks[options.task], options)
    return generate(_dataset(task, options), Store(options.store), options.address)


def _check_options(options: argparse.Namespace) -> None:
    """Raise `InputError` for an unknown task, and for an option that the task's kind does not have."""
    if options.task not in TASKS:
        raise unknown("task", options.task, TASKS)
    fields: tuple[str, ...]
    if options.task in synthetic_tasks:
        task = synthetic_tasks[options.task]
        lengths = (field for field in ("min_length", "max_length") if not hasattr(task, field))
        kind, fields = "synthetic", ("data", "skip_bad_rows", *lengths)
    else:
        kind, fields = "text", ("min_length", "max_length", "num_letters")
    if options.task in text_corpora:
        fields += ("skip_bad_rows",)
    if options.task in downstream_tasks and options.command == "generate":
        fields += ("num_examples", "num_validation", "seed")  # its data set is what its publisher made
    for field in fields:
        value = getattr(options, field, None)
        if value is not None and value is not False and value != []:
            raise InputError(
                f"--{field.replace('_', '-')} does not apply to {options.task}, a {kind} task; got {value}"
            )


def _examples(options: argparse.Namespace) -> str:
    """What `show` prints."""
    count, seed = options.num_examples, options.seed
    path = (options.data or "").removeprefix(f"{options.task}=")  # as `generate` takes it
    if options.task in text_corpora:
        if options.data is None:
            raise InputError(f"{options.task} needs --data, a file or directory of documents")
        return show.of_corpus(text_corpora[options.task], path, num_examples=count, seed=seed)
    if options.task in downstream_tasks:
        places = {} if options.data is None else {downstream_tasks[options.task].data.name: path}
        return show.of_texts(downstream_tasks[options.task].data, places, num_examples=count, seed=seed)
    task = _with_lengths(synthetic_tasks[options.task], options)
    if options.num_letters is not None:
        most = task.tokens.last - task.tokens.first + 1
        if not 2 <= options.num_letters <= most:
            raise InputError(f"--num-letters must be from 2 to {most:,}, got {options.num_letters}")
        tokens = dataclasses.replace(task.tokens, last=task.tokens.first + options.num_letters - 1)
        task = dataclasses.replace(task, tokens=tokens)
    return show.of_task(task, num_examples=count, seed=seed)


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {text}")
    return value


def _dataset(task: SyntheticTask | TextCorpus, options: argparse.Namespace) -> Dataset:
    fields = ("num_examples", "num_validation", "seed")
    return Dataset(task=task, **{field: value for field in fields if (value := getattr(options, field)) is not None})


def _with_lengths(task: SyntheticTask, options: argparse.Namespace) -> SyntheticTask:
    given = {"min_length": options.min_length, "max_length": options.max_length}
    return dataclasses.replace(task, **{field: value for field, value in given.items() if value is not None})


def why(one: str, other: str, store: Store) -> str:
    """A line for each field in which the descriptions of two finished artifacts differ, and for their versions.

    Raises `InputError` for a name that the store has no record of.
    """
    records = []
    for artifact in (one.strip("/"), other.strip("/")):
        record = store.read_json(f"{artifact}/record.json")
        if record is None:
            raise unknown(f"finished artifact of {store.uri}", artifact, store.names())
        records.append(record)
    lines = differences(records[0]["description"], records[1]["description"])
    versions = differences(*(record["provenance"].get("versions", {}) for record in records), path="versions")
    return "\n".join([*(lines or ["the descriptions are equal"]), *versions])


def fetch_data(task: str, into: Path) -> int:
    """Download a task's files and say what is left to do; returns 1 where that needs a person."""
    called = downstream_tasks[task].data.name if task in downstream_tasks else task
    publisher = publishers[called]
    print(f"{publisher.page} (licence: {publisher.licence})")
    fetch(publisher, into)
    if publisher.by_hand:
        print(f"by hand: {publisher.by_hand}")
    # An archive's files lie in its own folders.
    members = [member for download in publisher.downloads for member in download.members]
    folder = into / members[0].split("/")[0] if members else into
    print(f"then: --data {called}={folder} or RAYSYNTH_DATA_{called.upper()}={folder}")
    return 1 if publisher.by_hand else 0


def print_predictions(run: str, store: Store, num_examples: int | None, only: str | None) -> None:
    """Print source, target and prediction of a fine-tuning's test examples, with right or wrong for each.

    Raises `InputError` for an unknown or unfinished run and for one without predictions.
    """
    if num_examples is not None and num_examples < 1:
        raise InputError(f"num_examples must be at least 1, got {num_examples}")
    run = run.strip("/")
    if store.read_json(f"{run}/record.json") is None:
        raise unknown(f"finished run of {store.uri}", run, (name for name in store.names() if name[:9] == "finetune/"))
    content = store.read_bytes(f"{run}/predictions.jsonl")
    if content is None:
        raise InputError(f"{store.uri}: {run} has no predictions; only a fine-tuning does")
    rows = [json.loads(line) for line in content.decode().splitlines()]
    numbered = [
        (number, row) for number, row in enumerate(rows, start=1) if only is None or row["right"] == (only == "right")
    ]
    for number, row in numbered[:num_examples]:
        print(f"[{number}] {'right' if row['right'] else 'wrong'}")
        for field in ("source", "target", "prediction"):
            print(f"  {field + ':':11} {row[field]}")
        others = [text for text in dict.fromkeys(row.get("references", [])) if text != row["target"]]
        for text in others:
            print(f"  {'or:':11} {text}")
    print(f"{sum(row['right'] for row in rows):,} of {len(rows):,} right")


def generate(
    dataset: Dataset | TextDataset,
    store: Store,
    address: str | None,
    data: dict[str, str] | None = None,
    bad_rows: BadRows = BadRows.REFUSE,
) -> int:
    """Write a data set unless it is there whole; returns the exit status."""
    if store.status(dataset).state is State.DONE and shard_files.intact(dataset, store):
        print(f"nothing to do: {name(dataset)} is in {store.uri}")
        return 0
    store.check_writable()
    with leases.driver(store) as driver:
        from raysynth.run.make_data import make_data  # Ray is imported only where something runs

        error = make_data(dataset, store, driver, data=data or {}, address=address, bad_rows=bad_rows)
    if error is not None:
        print(f"error: {error}", file=sys.stderr)
        return 1
    record = store.status(dataset).record
    assert record is not None, "execute recorded it"
    rows = ", ".join(f"{count:,} {split}" for split, count in record["result"]["rows"].items())
    print(f"{store.uri}/{name(dataset)}: {rows}")
    return 0


def import_weights(directory: Path, called: str, expected: str, dtype: Dtype, store: Store) -> None:
    """Bring the checkpoint in `directory` into a store as the `Pretrained` of that name.

    Raises `InputError` where it is damaged, is not of the `expected` shape ("published", or "found" for any), or where
    the store holds other weights under the same description.
    """
    from raysynth.model.checkpoints import params_digest, write_params

    if expected == "published" and called not in published_models:
        raise InputError(f"{unknown('pretrained model', called, published_models)}; your own takes --model found")
    published = pretrained(called).model if expected == "published" else None
    started = time.time()
    found, params = read(directory)
    for field, value in {} if published is None else vars(published).items():
        if field != "dtype" and getattr(found, field) != value:
            raise InputError(f"{directory}: {called} has {field} {value}, found {getattr(found, field)}")
    artifact = Pretrained(called, model=dataclasses.replace(found, dtype=dtype))
    where, digest = f"{store.uri}/{name(artifact)}", params_digest(params)
    record = store.status(artifact).record
    if record is not None and record["result"]["params_sha256"] != digest:
        raise InputError(f"{where} holds other weights than {directory}; take another --name or delete it")
    if record is not None:
        print(f"nothing to do: {name(artifact)} is in {store.uri}")
    else:
        store.check_writable()
        with store.workspace(artifact) as workspace:
            write_params(workspace.path / "checkpoints", 0, params)
            workspace.push()
        source = {"imported_from": str(directory.absolute()), "format": str(detect(directory))}
        result = {"selected_step": 0, "params_sha256": digest}
        store.record(artifact, result=result, provenance={**provenance(started), **source})
        print(where)
    print(f"in a sweep: {_call(artifact)}")


def _call(artifact: Pretrained) -> str:
    """The Python that describes it."""
    if artifact.name in published_models and artifact.model == published_models[artifact.name]:
        return f"pretrained({artifact.name!r})"
    told = _fields(describe(artifact.model))
    fields = ", ".join(f"{field}={value!r}" for field, value in told.items())
    return f"pretrained({artifact.name!r}, model=T5Config({fields}))"


def export_weights(artifact: str, store: Store, form: str, out: Path) -> None:
    """Write the selected checkpoint of the artifact with that name to the new directory `out`."""
    from raysynth.weights import selected, t5x

    chosen = selected.selected(artifact, store)
    config = _model(chosen.description)
    if Format(form) is Format.T5X:
        t5x.write_t5x(out, config, chosen.params, step=chosen.step)
    else:
        write_hugging_face(out, config, chosen.params)
    print(out)


def _model(description: dict[str, Any]) -> T5Config:
    """The model of a described artifact, of its init scheme or of that scheme's source."""
    for field in ("model", "onto"):
        if field in description:
            return T5Config(**_fields(description[field]))
    schemes = description.get("schemes", [None])
    return _model(description.get("init") or description.get("source") or schemes[0])


def _fields(model: dict[str, Any]) -> dict[str, Any]:
    """The fields of a described `T5Config`."""
    told = {field: value for field, value in model.items() if field != "is"}
    return {field: tuple(value) if isinstance(value, list) else value for field, value in told.items()}


def draw_norms(artifacts: list[str], store: Store, out: Path) -> None:
    """Write Figure 6 for artifacts, each a name or LABEL=name; the format is that of `out`'s suffix, or PNG and SVG."""
    from raysynth.weights import selected

    files = figures.output_files(out)  # before the weights, which take longer
    chosen = {artifact.strip("/"): label for label, _, artifact in (told.rpartition("=") for told in artifacts)}
    labels = [label or legend for label, legend in zip(chosen.values(), figures.legends(chosen), strict=True)]
    for label in labels:
        if [*labels, figures.RANDOM].count(label) > 1:
            raise InputError(f"two lines would be called {label!r}; write LABEL=ARTIFACT for one of them")
    means = [attention_norm_means(selected.selected(artifact, store).flat) for artifact in chosen]
    for file in files:
        content = figures.norms_by_layer(dict(zip(labels, means, strict=True)), file_format=file.suffix[1:])
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        except OSError as error:
            raise InputError(f"{file} cannot be written: {error.strerror}") from None
        print(file)


def print_statistics(artifact: str, store: Store, group_by: GroupBy, form: str) -> None:
    """Print the moments of the selected checkpoint's parameters by group."""
    from raysynth.weights import selected

    chosen = selected.selected(artifact, store)
    told = moments(chosen.flat, group_by)
    if form == "csv":
        print(tables.as_csv(*spreadsheet(told, group_by)), end="")
        return
    print(f"{artifact.strip('/')}, step {chosen.step:,}\n")
    print(table(told, group_by))


def check_cluster(file: Path) -> int:
    """Print what is wrong with the description of a cluster; returns 1 if anything is."""
    found = cluster.problems(cluster.read(file))
    for line in found:
        print(f"{file}: {line}")
    if not found:
        print(f"{file}: nothing to object to")
    return 1 if found else 0


def list_leftovers(config: dict[str, Any], service: Any) -> None:
    """Print the cluster's TPU VMs that no longer run and still exist."""
    found = cluster.leftovers(config, service)
    for node in found:
        print(f"{node.state:10} {node.accelerator:12} created {node.created}  {node.name}")
    if not found:
        print(f"nothing left behind by cluster {config.get('cluster_name')!r}")


def delete_leftovers(config: dict[str, Any], service: Any) -> None:
    """Delete the cluster's TPU VMs that no longer run."""
    found = cluster.leftovers(config, service)
    for node in found:
        cluster.delete(node, service)
        print(f"deleting {node.name}")
    if not found:
        print(f"nothing left behind by cluster {config.get('cluster_name')!r}")


if __name__ == "__main__":
    sys.exit(main())

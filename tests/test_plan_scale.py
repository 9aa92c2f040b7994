"""The work for a sweep grows as its size does: counted, because times differ from machine to machine."""

import dataclasses
from typing import ClassVar

from raysynth import Dataset, Finetune, FullInit, Pretrain, RandomInit, Sweep, T5Config, downstream_tasks, token_space
from raysynth.report.status import print_plan, print_status
from raysynth.specs.identity import in_order, name
from raysynth.store.store import State, Store
from raysynth.synthetic.base import SyntheticTask
from tests.records import provenance, weights_result

MODEL = T5Config(vocab_size=512, emb_dim=16, num_heads=2, head_dim=8, num_encoder_layers=1, num_decoder_layers=1)
TASK = downstream_tasks["python_ast"]


class Counted(SyntheticTask):
    """A task that counts how often it is described."""

    name: ClassVar[str] = "counted"
    times: ClassVar[list[None]] = []

    @property
    def revision(self):
        self.times.append(None)
        return 1

    def draw(self, rng, count):
        raise AssertionError("not drawn")


def finetune(seed):
    """A fine-tuning whose source is equal to that of the others, but another object."""
    data = Dataset(task=Counted(tokens=token_space(num_pieces=412)))
    return Finetune(task=TASK, init=FullInit(Pretrain(data=data, model=MODEL)), seed=seed)


def test_a_plan_describes_each_fine_tuning_once(tmp_path, capsys):
    cells = [finetune(seed) for seed in range(300)]
    store = Store(str(tmp_path))
    Counted.times.clear()
    statuses = store.statuses(in_order(cells))
    print_plan(statuses, store, num_workers=1, price=None)
    print_status(statuses, store)
    assert len(statuses) == 303
    assert capsys.readouterr().out.count(f"waits for {name(cells[0].init.source)}") == 300
    assert len(Counted.times) < 320


def test_nothing_is_read_for_artifacts_that_a_store_does_not_have(tmp_path, monkeypatch):
    cells = [Finetune(task=TASK, init=RandomInit(MODEL), seed=seed) for seed in range(300)]
    store = Store(str(tmp_path))
    store.record(cells[7], result=weights_result(), provenance=provenance())
    store.progress(cells[8], step=1, num_steps=2, seconds_per_step=None)
    read = []
    read_bytes = Store.read_bytes
    monkeypatch.setattr(Store, "read_bytes", lambda self, path: read.append(path) or read_bytes(self, path))
    statuses = store.statuses(cells)
    assert list(statuses) == cells
    assert (statuses[cells[7]].state, statuses[cells[8]].state) == (State.DONE, State.RUNNING)
    assert {status.state for status in statuses.values()} == {State.NEW, State.DONE, State.RUNNING}
    assert sorted(read) == sorted(
        f"{name(cells[cell])}/{file}"
        for cell, files in ((7, ("record.json",)), (8, ("record.json", "failure.json", "running.json")))
        for file in files
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Label:
    """A label that counts comparisons."""

    number: int
    compared: ClassVar[list[None]] = []

    def __hash__(self):
        return hash(self.number)

    def __eq__(self, other):
        self.compared.append(None)
        return isinstance(other, Label) and self.number == other.number


def test_cells_are_not_compared_with_all_others():
    def trial(label, seed):
        return Finetune(task=TASK, init=RandomInit(MODEL), seed=1_000 * seed + label.number)

    sweep = Sweep(name="many", claim="cells are found by their hash")
    Label.compared.clear()
    sweep.add(trial, label=[Label(number) for number in range(500)], seed=[0])
    sweep.extend({"label": [Label(number) for number in range(500)]}, seed=[1])
    sweep.table(title="T", rows=("label",))
    assert len(sweep.cells()) == 1_000
    assert len(Label.compared) < 20 * 1_000

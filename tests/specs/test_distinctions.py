"""What is shown beside names that look alike."""

import dataclasses

from raysynth import Dataset, Finetune, FullInit, Pretrain, RandomInit, T5Config, downstream_tasks, synthetic_tasks
from raysynth.report.status import print_plan
from raysynth.specs.distinctions import distinctions
from raysynth.specs.identity import in_order, name
from raysynth.store.store import State, Status, Store

WIDE = T5Config(emb_dim=64, num_heads=2, head_dim=32, mlp_dim=256, num_encoder_layers=2, num_decoder_layers=2)
NARROW = dataclasses.replace(WIDE, emb_dim=32, head_dim=16, mlp_dim=128)
TASK = downstream_tasks["python_ast"]


def tuned(model, **recipe):
    data = Dataset(task=synthetic_tasks["set"])
    return Finetune(task=TASK, init=FullInit(Pretrain(data=data, model=model, **recipe)))


def test_artifacts_that_differ_in_size_or_length_say_so():
    runs = [tuned(WIDE), tuned(NARROW), tuned(NARROW, num_steps=20_000), Finetune(task=TASK, init=RandomInit(WIDE))]
    told = distinctions(in_order(runs))
    assert [told[run] for run in runs] == [
        "d64 2+2, pre-trained 80,000 steps",
        "d32 2+2, pre-trained 80,000 steps",
        "d32 2+2, pre-trained 20,000 steps",
        "d64 2+2",
    ]
    sources = [run.init.source for run in runs[:3]]
    assert [told[source] for source in sources] == [
        "d64 2+2, 80,000 steps",
        "d32 2+2, 80,000 steps",
        "d32 2+2, 20,000 steps",
    ]
    assert len({name(run).rpartition("-")[0] for run in runs[:3]}) == 1


def test_what_is_the_same_everywhere_is_not_said():
    assert distinctions(in_order([tuned(WIDE), Finetune(task=TASK, init=RandomInit(WIDE))])) == {}


def test_shapes_that_no_width_tells_are_said_too():
    gated = dataclasses.replace(WIDE, mlp_activations=("gelu", "linear"), num_heads=4, mlp_dim=128)
    assert gated.size == "d64 2+2 4x32 heads mlp128 gated"


def test_plan_shows_them(tmp_path, capsys):
    artifacts = in_order([tuned(WIDE), tuned(NARROW)])
    print_plan(dict.fromkeys(artifacts, Status(state=State.NEW)), Store(str(tmp_path)), num_workers=1, price=None)
    printed = capsys.readouterr().out
    assert f"{name(artifacts[-1])} (d32 2+2)  " in printed

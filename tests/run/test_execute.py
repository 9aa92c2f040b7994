"""A trial takes what the cluster has."""

import pytest

from raysynth import InputError
from raysynth.run.execute import trial_resources


@pytest.mark.parametrize(
    ("nodes", "wanted"),
    [
        ([{"Alive": True, "Resources": {"CPU": 2.0}}], {"CPU": 1}),
        (
            [{"Alive": True, "Resources": {"CPU": 8.0}}, {"Alive": True, "Resources": {"CPU": 96.0, "TPU": 4.0}}],
            {"CPU": 1, "TPU": 4.0},
        ),
        ([{"Alive": True, "Resources": {"CPU": 8.0}}, {"Alive": False, "Resources": {"TPU": 4.0}}], {"CPU": 1}),
        ([{"Alive": True, "Resources": {"CPU": 8.0, "GPU": 4.0}}], {"CPU": 1, "GPU": 1}),
    ],
)
def test_a_trial_takes_a_whole_tpu_host_or_one_gpu_or_one_cpu(nodes, wanted):
    assert trial_resources(nodes) == wanted


@pytest.mark.parametrize("head", ["TPU-v4-32-head", "TPU-v5litepod-16-head"])
def test_a_slice_of_several_hosts_is_refused(head):
    nodes = [{"Alive": True, "Resources": {"CPU": 240.0, "TPU": 4.0, head: 1.0}}]
    with pytest.raises(
        InputError, match=r"has several hosts, and a trial trains on one: use slices of one host, such as"
    ):
        trial_resources(nodes)


@pytest.mark.parametrize("head", ["TPU-v3-8-head", "TPU-v4-8-head", "TPU-v6e-8-head"])
def test_a_slice_of_one_host_is_taken_whole(head):
    nodes = [{"Alive": True, "Resources": {"CPU": 240.0, "TPU": 4.0, head: 1.0}}]
    assert trial_resources(nodes) == {"CPU": 1, "TPU": 4.0}

"""Why a worker's process ended is read from what it and Ray left in the session's logs."""

import pytest

from raysynth.run.deaths import Death, Reader

FLAG = """\
I0000 00:00:1 3 parse_flags_from_env.cc:200] reading
F0000 00:00:1 3 parse_flags_from_env.cc:234] Unknown flag in XLA_FLAGS: --xla_no_such_flag=true
*** SIGABRT received
"""


@pytest.mark.parametrize(
    ("text", "cause", "is_final"),
    [
        (FLAG, "XLA does not know the flag --xla_no_such_flag=true in XLA_FLAGS", True),
        ("Fatal Python error: Segmentation fault\n\nThread 1", "its process ended with a Segmentation fault", False),
        ("terminate called after throwing an instance of 'x'\n", "its process ended with a C++ exception 'x'", False),
        ("a warning\n", "", False),
    ],
)
def test_the_end_of_a_process_s_messages_tells_why(text, cause, is_final, tmp_path):
    (tmp_path / "worker-a-01-77.err").write_text(text)
    (tmp_path / "worker-b-01-78.err").write_text("Fatal Python error: Aborted\n")
    death = Reader(tmp_path)(77)
    assert death.cause.endswith(cause)
    assert death.is_final is is_final
    assert death.log == text


KILL = (
    "[1 I 2 2] (raylet) node_manager.cc:3199: Killing 1 worker(s), kill details: Memory on the node (IP: 127.0.0.1, "
    "ID: 59) was 22.9GB used / 23.54GB limit (0.97)\n"
)


def test_ray_s_kill_for_memory_counts_once(tmp_path):
    log = tmp_path / "raylet.out"
    log.write_text(KILL.replace("22.9", "11.1"))
    reader = Reader(tmp_path)
    assert reader(1).cause == ""
    log.write_text(log.read_text() + KILL)
    assert reader(1).cause == "its process ran out of memory: the host used 22.9GB of 23.54GB"
    assert reader(1).cause == ""


def test_without_logs_nothing_is_known():
    assert Reader(None)(1) == Death()

"""cluster.yaml for real: its set-up commands in a clean root, then `ray up` to `ray down` on hosts of this machine.

Between them a sweep loses every host in turn: one is cut off, one is drained, and the head is restarted.

The hosts are namespaces of this machine with a root, an address, processes and an sshd each. They have no way out: what
the set-up commands need when Ray runs them again over ssh, the first test has left in the layers below.
What stays untried here is Google Cloud, the download of Python (the root gets this machine's) and any TPU.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.hosts import PROJECT, Layer, clean_root, give_python, missing, network, registry_variables, tool

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif("missing() is not None", reason=str(missing())),
]

PYTHON = re.search(r"--python (3\.\d+)", (PROJECT / "cluster.yaml").read_text())[1]
LEFT = "0123456789abcdef" * 4
"""A token that an earlier local session left behind."""

SWEEP = """
import dataclasses
from raysynth import Dataset, Finetune, FullInit, Pretrain, Sweep, T5Config
from raysynth import downstream_tasks, synthetic_tasks, token_space

MODEL = T5Config(
    vocab_size=512, emb_dim=16, num_heads=2, head_dim=8, num_encoder_layers=1, num_decoder_layers=1, mlp_dim=32
)
sizes = dict(num_steps=20, eval_every=10, batch_size=8, input_length=24, target_length=24)
task = dataclasses.replace(synthetic_tasks["set"], min_length=4, max_length=12, tokens=token_space(num_pieces=412))
source = Pretrain(data=Dataset(task=task, num_examples=2_000, num_validation=64), model=MODEL, **sizes)


python_ast = dataclasses.replace(downstream_tasks["python_ast"], num_steps=4_800, eval_every=300)


def trial(seed):
    return Finetune(task=python_ast, init=FullInit(source), seed=seed)


sweep = Sweep(name="hosts", claim="a sweep outlives its hosts")
sweep.add(trial, seed=range(4))
sweep.table(title="exact match", rows=("seed",))
if __name__ == "__main__":
    sweep.main()
"""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Layers in which the set-up commands of cluster.yaml ran."""

    head: Layer
    worker: Layer


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    path = tmp_path_factory.mktemp("hosts")
    yield path
    shutil.rmtree(path, ignore_errors=True)  # gigabytes, which pytest would keep


@pytest.fixture(scope="module")
def prepared(room):
    config = yaml.safe_load((PROJECT / "cluster.yaml").read_text())
    root = room / "root"
    variables = registry_variables()
    every = Layer(directory=room / "every", lower=(root,))
    try:
        clean_root(root)
        give_python(root, PYTHON)
        every.run("true", {})
    except (subprocess.CalledProcessError, AssertionError) as error:
        pytest.skip(f"no clean root can be made here: {error}")
    for remote, local in config["file_mounts"].items():
        target = every.upper / "root" / remote.removeprefix("~/")
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (PROJECT / local).is_dir() else shutil.copy
        copy(PROJECT / local, target)
    for command in config["setup_commands"]:
        every.run(command, variables)
    layers = {}
    for kind in ("head", "worker"):
        layers[kind] = Layer(directory=room / kind, lower=every.stack)
        for command in config[f"{kind}_setup_commands"]:
            layers[kind].run(command, variables)
    return Prepared(**layers)


def test_set_up_commands_in_a_clean_root(prepared):
    show = "import sys, raysynth, ray; print(*sys.version_info[:2], raysynth.__file__, sep=chr(46))"
    for layer in (prepared.head, prepared.worker):
        layer.run(f"""test "$(python -c '{show}')" = "{PYTHON}./root/project/raysynth/__init__.py" """, {})
        layer.run("python project/sweeps/quickstart.py plan --tiny --store /tmp/store", {})
    prepared.head.run('test "$RAY_ADDRESS" = auto && test -n "$RAYSYNTH_STORE" && test -z "$JAX_PLATFORMS"', {})
    prepared.head.run('test "$(stat -c "%a %s" ~/.raysynth-token)" = "600 64"', {})
    prepared.worker.run("test ! -e ~/.raysynth-token", {})
    for layer in (prepared.head, prepared.worker):
        layer.run('test "$RAY_AUTH_MODE $RAY_AUTH_TOKEN_PATH" = "token /root/.raysynth-token"', {})
    prepared.head.run("raysynth cluster check project/absent.yaml; test $? = 2", {})
    prepared.head.run("python -c 'import aiohttp_cors, gcsfs, googleapiclient, google_auth_httplib2'", {})
    prepared.head.run("! python -c 'import libtpu'", {})
    prepared.worker.run("python -c 'import libtpu, jax; assert jax.device_count()'", {})
    prepared.worker.run('test -z "$RAY_ADDRESS"', {})


def test_ray_up_submit_and_down(prepared, room):
    store, state = room / "store", room / "ray"
    store.mkdir()
    state.mkdir()
    (room / "sweep.py").write_text(SWEEP)
    with network(room) as hosts:
        layers = [
            Layer(directory=room / f"host{number}", lower=lower.stack)
            for number, lower in enumerate([prepared.head, prepared.worker, prepared.worker])
        ]
        for layer in layers[:2]:
            leave_token(layer)
        head, *workers = [hosts.start(layer, [store]) for layer in layers]
        config = yaml.safe_load((PROJECT / "cluster.yaml").read_text())
        for field in ("provider", "auth", "available_node_types", "head_node_type", "max_workers"):
            del config[field]  # what the local provider has no say in, or makes itself
        config["provider"] = {"type": "local", "head_ip": head, "worker_ips": workers}
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(hosts.key)}
        file = room / "local.yaml"
        file.write_text(yaml.safe_dump(config))

        variables = {**os.environ, "RAY_TMPDIR": str(state), "TMPDIR": str(state), "RAY_USAGE_STATS_ENABLED": "0"}
        # With Ray's second autoscaler the local provider never sets up its last worker.
        variables["RAY_UP_enable_autoscaler_v2"] = "0"
        ray = Ray(file=file, variables=variables, log=room / "ray.log")
        try:
            ray("up", options=["-y"])
            ray.wait_for_nodes(3, seconds=240)
            token = hosts.ssh(head, "cat .raysynth-token").stdout
            assert re.fullmatch(r"[0-9a-f]{64}", token)
            for worker in workers:
                assert hosts.ssh(worker, "stat -c %a .raysynth-token && cat .raysynth-token").stdout == f"600\n{token}"
            stranger = hosts.start(Layer(directory=room / "stranger", lower=prepared.worker.stack), [])
            for mode in ("token", "disabled"):
                joined = hosts.ssh(stranger, joining(head, mode))
                assert joined.returncode, joined
                assert "oken" in joined.stdout + joined.stderr, joined
            ray("exec", "ray status")
            assert " 3 local.cluster.node" in ray.tail()
            # One training a host: the three share the two cores of this machine.
            run = ("submit", str(room / "sweep.py"), "--", "run", "--cpus-per-trial", "2", "--store", str(store))
            with ray.start(*run) as submitted:
                at_work = partial(wait_for_work, store, submitted)
                names = dict(zip([head, *workers], hosts.namespaces, strict=False))
                # One that has just begun, so that it is far from done when the head's end is noticed.
                training, at = at_work(on=[names[worker] for worker in workers], most=0.1)
                cut, drained = sorted(workers, key=lambda worker: names[worker] != at)
                hosts.cut_off(cut)
                assert "running" in hosts.ssh(head, login(f"python sweep.py status --store {store}")).stdout
                at_work(on=[names[drained]])
                assert hosts.ssh(head, draining(drained)).returncode == 0
                assert hosts.ssh(drained, "sleep 3; pkill -9 -f raylet").returncode == 0
                at_work(training, on=[names[head], names[drained]])  # the launcher starts that one again
                assert hosts.ssh(head, "pkill -9 -f gcs_server").returncode == 0
            assert submitted.returncode == 1, ray.tail()
            assert "run the same command again to continue" in ray.tail()
            assert made(store) < 5
            hosts.cut_off(cut, "up")
            ray("up", options=["-y"])
            ray(*run)
            assert made(store) == 5
            assert not list(store.rglob("failure.json"))
            assert not list((store / "leases").rglob("*.json"))
            records = list(store.glob("*/*/record.json"))
            made_on = {json.loads(path.read_text())["provenance"]["host"] for path in records}
            assert made_on <= set(hosts.namespaces)
            assert (store / "reports/hosts/table1.md").read_text().startswith("| seed |")
            ray(*run)
            assert "nothing to do" in ray.tail()
            with ray.tunnel("dashboard", "--port", "28265"):
                jobs = "http://localhost:28265/api/jobs/"
                assert json.loads(answer(jobs, headers={"Authorization": f"Bearer {token}"})) is not None
                with pytest.raises(urllib.error.HTTPError, match=r"40[13]"):
                    urllib.request.urlopen(jobs, timeout=5)
            board = f"tensorboard --port 26006 --logdir {store}"
            with ray.tunnel("exec", "--port-forward", "26006", command=board):
                assert "finetune/" in answer("http://localhost:26006/data/runs", until="finetune/")
            assert token not in file.read_text() + ray.log.read_text()
            ray("exec", "ray get-auth-token")
            assert token in ray.tail()
            for port in (8265, 26006):  # what the tunnels reach listens on loopback only
                assert hosts.ssh(head, f"ss -Hltn src {head} sport = :{port}").stdout == ""
        finally:
            ray("down", options=["-y"])
        assert hosts.ssh(head, "pgrep -f gcs_server").returncode == 1
    assert not [name for name in os.listdir("/sys/class/net") if name == hosts.bridge]
    assert not any((Path("/run/netns") / name).exists() for name in hosts.namespaces)


def made(store: Path) -> int:
    """How many trainings are done."""
    return len([path for path in store.glob("*/*/record.json") if path.parts[-3] != "dataset"])


def wait_for_work(
    store: Path, going: subprocess.Popen, training: str = "*", *, on: Sequence[str], most: float = 1.0
) -> tuple[str, str]:
    """Wait until one of these hosts is in the middle of a fine-tuning, or of a certain one; returns it and the host.

    No more than the share `most` of its steps must be done.
    """
    end = time.monotonic() + 600
    while time.monotonic() < end:
        assert going.poll() is None, f"the run ended before {on} did anything"
        for file in store.glob(f"finetune/{training}/running.json"):
            with contextlib.suppress(OSError, ValueError):  # it is gone, or being written
                running = json.loads(file.read_text())
                if running["host"] in on and 0 < running["step"] < most * running["num_steps"]:
                    return file.parent.name, running["host"]
        time.sleep(0.2)
    raise AssertionError(f"{training} does not run on {on}")


def draining(address: str) -> str:
    """The command by which a cloud's machine announces that it goes in three seconds."""
    state = f"ray list nodes --format json --filter node_ip={address}"
    first = f"$({state} | python -c 'import json, sys; print(json.load(sys.stdin)[0][\"node_id\"])')"
    drain = f"ray drain-node --node-id {first} --reason DRAIN_NODE_REASON_PREEMPTION --reason-message preempted"
    return login(f"{drain} --deadline-remaining-seconds 3")


def leave_token(layer: Layer) -> None:
    """Put into a host's files what a session of Ray that a script started there leaves behind."""
    place = layer.upper / "root/.ray"
    place.mkdir(parents=True)
    (place / "auth_token").write_text(LEFT)


def joining(head: str, mode: str) -> str:
    """The command that adds a host to the cluster of a head, as the cluster launcher would give it."""
    return login(f"RAY_AUTH_MODE={mode} timeout 120 ray start --address={head}:6379")


def login(command: str) -> str:
    """A command in the shell that the cluster launcher uses."""
    return f"bash --login -c -i {shlex.quote(f'source ~/.bashrc; {command}')}"


def answer(url: str, *, until: str = "", seconds: int = 90, headers: Mapping[str, str] | None = None) -> str:
    """What a server says, asked again until it is there and says `until`."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=5) as stream:
                told = stream.read().decode()
            if until in told or time.monotonic() > end:
                return told
        except OSError:
            if time.monotonic() > end:
                raise
        time.sleep(1)


@dataclass(frozen=True, kw_only=True)
class Ray:
    """Ray's launcher, run from the root of the repository."""

    file: Path
    variables: dict[str, str]
    log: Path

    def start(self, verb: str, *arguments: str, options: Sequence[str] = ()) -> subprocess.Popen:
        command = [tool("ray"), verb, *options, str(self.file), *arguments]
        log = self.log.open("a")
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def __call__(self, verb: str, *arguments: str, options: Sequence[str] = ()) -> None:
        status = self.start(verb, *arguments, options=options).wait(timeout=300)
        assert status == 0, self.tail()

    @contextlib.contextmanager
    def tunnel(self, verb: str, *options: str, command: str | None = None) -> Iterator[None]:
        """A command that goes on until it is ended."""
        process = self.start(verb, *([command] if command else ()), options=options)
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # it and its ssh
            process.wait()

    def tail(self) -> str:
        return self.log.read_text()[-6000:]

    def wait_for_nodes(self, count: int, *, seconds: int) -> None:
        """`ray up` returns when the head is up; its workers come later."""
        ask = "import ray; ray.init(log_to_driver=False); print('alive', sum(n['Alive'] for n in ray.nodes()))"
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self("exec", f'python -c "{ask}"')
            if f"alive {count}" in self.tail().split("$ ")[-1]:
                return
            time.sleep(3)
        raise AssertionError(f"fewer than {count} nodes after {seconds} s\n{self.tail()}")

"""What one GPU does in nine minutes: parity, steps, decoding, and a cell of Table 6. Run by hand; asserts nothing.

    pip install 'jax[cuda13]' flax optax orbax-checkpoint numba pyarrow sentencepiece safetensors
    python tests/benchmarks/on_device.py --data ../shared/data --out results/on_device

The second line runs in the root of a clone, which need not be installed. It needs neither Ray nor a store, and takes at
most `--minutes`. The parts run one after another:

1. golden: model, gradients, Adafactor and decoding against the golden numbers of tests/golden, in float32 with products
   of the highest precision; then loss and gradients of a shallow T5 Small in bfloat16, and in float32 with the
   device's default products, against float32 with the highest ones.
2. steps: T5 Small and T5 Base in bfloat16 at batches of 128, padded to 512/512 and in the packed layout of Set, with
   and without XLA's deterministic operations, with raysynth's attention and with `jax.nn.dot_product_attention`.
3. decoding: T5 Small, greedy and with 4 beams.
4. cell: Set with Appendix A's recipe for up to 10,000 steps; then MTOP from Random Init and from Set for as many steps
   as fit, the same number for both. Where `--data` has no folder `mtop`, this part stops before MTOP.

Each part runs in processes of its own and has a share of the time; later parts get what earlier ones leave. The report
is printed and, with `--out`, written there as `on_device.md` and `on_device.json` after every part, so that a run that
is cut leaves what it did. The exit status is 1 if a golden number is missed or a part fails.

`--tiny` goes through all parts in a minute on a CPU, with tiny models. Its figures mean nothing.
"""

import argparse
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden"
sys.path.insert(0, str(ROOT))

PEAK_TFLOPS = {"H100": 989, "H200": 989, "A100": 312}
"""Dense bfloat16 rates by a part of the device's name."""
LENGTH = 512
PRETRAIN_STEPS = 10_000
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
NUM_EVALUATIONS = 4
"""Evaluations of a fine-tuning and of the pre-training."""
VALIDATION_EXAMPLES = 512
CELL = "cell of Table 6: MTOP"
"""The heading of the fine-tunings' table."""

Row = dict[str, Any]
"""Values by heading."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a part's process is told."""

    tiny: bool
    data: str
    """The folder of downstream data; empty if there is none."""
    work: str
    """A temporary folder, shared by all parts."""
    peak_tflops: float | None
    batch_size: int
    deadline: float
    """When the process must have ended, in seconds since the epoch."""
    cases: list[Any]
    """What is left to do of a part that has several cases."""

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.time()

    @property
    def store(self) -> Path:
        return Path(self.work) / "store"


# -------------------------------------------------------------------------------- the parent process


@dataclass(frozen=True, kw_only=True)
class Part:
    """A process to run."""

    name: str
    share: float
    """The share of the whole time by whose end the part must have ended."""
    deterministic: bool = True
    cases: tuple[Any, ...] = ()
    """Where there are several, a process that dies is followed by one with the cases after the one that it died in."""


_LAYOUTS = ("packed", "padded")
_OTHER_ATTENTION = ("dot_product_attention, cudnn", "dot_product_attention, xla")

PARTS = (
    Part(name="golden", share=0.08),
    Part(
        name="steps",
        share=0.21,
        cases=tuple((model, layout, "raysynth") for model in ("T5 Small", "T5 Base") for layout in _LAYOUTS),
    ),
    Part(
        name="steps",
        share=0.35,
        deterministic=False,
        cases=(
            *(("T5 Small", layout, "raysynth") for layout in _LAYOUTS),
            *(("T5 Small", layout, attention) for attention in _OTHER_ATTENTION for layout in _LAYOUTS),
            *(("T5 Base", layout, "raysynth") for layout in _LAYOUTS),
        ),
    ),
    Part(name="decoding", share=0.40, cases=(1, 4)),
    Part(name="pretraining", share=0.68),
    Part(name="finetuning", share=0.85, cases=("Random Init",)),
    Part(name="finetuning", share=0.98, cases=("Set",)),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9, help="the most that the whole may take (default: 9)")
    parser.add_argument(
        "--data", type=Path, help="folder with mtop/ and t5_vocab/ (default: shared/data, beside or in the clone)"
    )
    parser.add_argument("--out", type=Path, help="folder for the report")
    parser.add_argument("--peak-tflops", type=float, help="dense bfloat16 rate of the device, in 10^12 per second")
    parser.add_argument("--batch", type=int, default=128, help="examples of a timed step; halved until they fit")
    parser.add_argument("--only", action="append", metavar="PART", help="run only this part; may be repeated")
    parser.add_argument("--tiny", action="store_true", help="use tiny models and few steps, to test this script")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        part, settings = options.child
        CHILDREN[part](Settings(**json.loads(settings)))
        return 0
    with tempfile.TemporaryDirectory() as work:
        return Run(options, work).all()


class Run:
    """Runs the parts one after another and reports after each."""

    def __init__(self, options: argparse.Namespace, work: str):
        self._options, self._work = options, work
        self._started = time.time()
        self._seconds = 60 * options.minutes
        self._rows: list[Row] = []
        self._notes: list[str] = []
        folders = [options.data] if options.data else [ROOT.parent / "shared/data", ROOT / "shared/data"]
        self._data = next((str(folder.resolve()) for folder in folders if folder.is_dir()), "")
        if options.data and not self._data:
            raise SystemExit(f"--data {options.data} is not a folder")

    def all(self) -> int:
        """Run everything; returns the exit status."""
        parts = [part for part in PARTS if not self._options.only or part.name in self._options.only]
        draws = None
        if {"pretraining", "finetuning"} & {part.name for part in parts}:  # on the CPU, while the GPU works
            draws = self._start("draws", [], self._end(PARTS[-2].share), deterministic=True)
        try:
            for part in parts:
                if draws and part.name == "pretraining":
                    self._wait(draws, "draws", self._end(part.share))
                self._run(part)
                self._report()
        finally:
            if draws:
                end(draws)
        print("\n" + self._report(), flush=True)
        missed = any(row.get("verdict") == "TOO FAR" for row in self._rows)
        return int(missed or any("failed" in note for note in self._notes))

    def _end(self, share: float) -> float:
        return self._started + share * self._seconds

    def _run(self, part: Part) -> None:
        pending, has_cases = list(part.cases), bool(part.cases)
        deadline = self._end(part.share)
        if part.cases == ("Random Init",):  # half of what is left, so that Set gets as much
            deadline = (time.time() + self._end(PARTS[-1].share)) / 2
        while pending or not has_cases:
            label = f"{part.name} {part.cases[0]}" if part.name == "finetuning" else part.name
            if deadline - time.time() < 0.01 * self._seconds:
                self._note(f"{label}: no time left{f' for {shown(pending)}' if pending else ''}")
                return
            before = len(self._rows)
            cases = [(case, self._steps()) for case in pending] if part.name == "finetuning" else pending
            process = self._start(part.name, cases, deadline, deterministic=part.deterministic)
            status = self._wait(process, label, deadline)
            pending = pending[sum("case" in row for row in self._rows[before:]) :]
            if status == 0 or not has_cases:
                return
            if status is None:
                self._note(f"{label}: no time left for {shown(pending)}")
                return
            pending = pending[1:]  # the one in which the process died

    def _steps(self) -> int | None:
        """The number of steps that the first fine-tuning chose, None before it."""
        return next((row["steps"] for row in self._rows if row["table"] == CELL and "steps" in row), None)

    def _start(self, name: str, cases: list[Any], deadline: float, *, deterministic: bool) -> subprocess.Popen[bytes]:
        settings = Settings(
            tiny=self._options.tiny,
            data=self._data,
            work=self._work,
            peak_tflops=self._options.peak_tflops,
            batch_size=self._options.batch,
            deadline=deadline,
            cases=cases,
        )
        variables = {
            "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95",
            "JAX_COMPILATION_CACHE_DIR": f"{self._work}/compiled",
            "PYTHONUNBUFFERED": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC if deterministic else ''}".strip(),
        }
        vocabulary = Path(self._data) / "t5_vocab/spiece.model"
        if self._data and vocabulary.is_file():
            variables["RAYSYNTH_T5_VOCABULARY"] = str(vocabulary)
        command = [sys.executable, __file__, "--child", name, json.dumps(dataclasses.asdict(settings))]
        print(f"\n[{time.time() - self._started:4.0f} s] {name} {cases or ''}", flush=True)
        with open(f"{self._work}/{name}.log", "ab") as log:
            return subprocess.Popen(command, env=os.environ | variables, stderr=log, start_new_session=True)

    def _wait(self, process: subprocess.Popen[bytes], name: str, deadline: float) -> int | None:
        """Wait for a process until its time is over, and take its rows; returns its status, None if it had to end."""
        try:
            status = process.wait(max(1.0, deadline - time.time()))
        except subprocess.TimeoutExpired:
            status = None
        except BaseException:
            end(process)
            raise
        end(process)
        file = Path(self._work) / f"{process.pid}.jsonl"
        if file.exists():
            lines = file.read_text().splitlines(keepends=True)
            self._rows += [json.loads(line) for line in lines if line.endswith("\n")]
        if status is None:
            self._note(f"{name}: its time was over")
        elif status:
            log = (Path(self._work) / f"{name.split()[0]}.log").read_text(errors="replace").strip()
            print(log[-2000:], file=sys.stderr, flush=True)
            self._note(f"{name}: failed with status {status}: {(log.splitlines() or [''])[-1][:300]}")
        return status

    def _note(self, note: str) -> None:
        print(note, flush=True)
        self._notes.append(note)

    def _report(self) -> str:
        """The report so far as Markdown, which is also written."""
        text = markdown(self._rows, self._notes, seconds=time.time() - self._started)
        if self._options.out:
            self._options.out.mkdir(parents=True, exist_ok=True)
            (self._options.out / "on_device.md").write_text(text)
            content = {"rows": self._rows, "notes": self._notes, "seconds": time.time() - self._started}
            (self._options.out / "on_device.json").write_text(json.dumps(content, indent=1))
        return text


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def markdown(rows: list[Row], notes: list[str], *, seconds: float) -> str:
    """All tables, in the order in which they began."""
    parts = [f"# One device, {seconds / 60:.1f} minutes"]
    for table in dict.fromkeys(row["table"] for row in rows):
        own = [
            {key: value for key, value in row.items() if key not in ("table", "case")}
            for row in rows
            if row["table"] == table
        ]
        if table == "device":
            own = own[:1]
        headings = list(dict.fromkeys(heading for row in own for heading in row))
        lines = [headings, ["---"] * len(headings), *([shown(row.get(heading)) for heading in headings] for row in own)]
        parts.append(f"## {table[0].upper()}{table[1:]}")
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def shown(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        case int():
            return f"{value:,}"
        case _:
            return str(value).replace("|", "/").replace("\n", " ")


# -------------------------------------------------------------------------------- what the children share


def emit(settings: Settings, table: str, *, case: Any = None, **values: Any) -> None:
    """Hand a row of a table to the parent, and print it; `case` says which case it ends."""
    row = {"table": table} | ({} if case is None else {"case": case}) | values
    with open(f"{settings.work}/{os.getpid()}.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    print("  " + ", ".join(f"{name} {shown(value)}" for name, value in values.items()), flush=True)


def emit_device(settings: Settings) -> float | None:
    """Hand over what this runs on; returns the peak rate, in 10^12 operations a second, if it is known."""
    import jax

    device = jax.devices()[0]
    known = next((peak for part, peak in PEAK_TFLOPS.items() if part in device.device_kind), None)
    peak = settings.peak_tflops or known
    emit(
        settings,
        "device",
        devices=len(jax.devices()),
        kind=device.device_kind,
        platform=device.platform,
        jax=jax.__version__,
        python=sys.version.split()[0],
        **{"peak TFLOP/s": peak},
    )
    return None if peak is None else peak * len(jax.devices())


def small_model(settings: Settings) -> Any:
    """T5 Small, or what stands for it in a tiny run."""
    from raysynth import T5_SMALL

    if not settings.tiny:
        return T5_SMALL
    return dataclasses.replace(
        T5_SMALL,
        emb_dim=16,
        num_heads=2,
        head_dim=8,
        num_encoder_layers=1,
        num_decoder_layers=1,
        mlp_dim=32,
    )


def random_block(config: Any, rows: int, input_length: int, target_length: int) -> Any:
    """Random rows without padding."""
    import numpy as np

    from raysynth.data.layout import Block

    rng = np.random.default_rng(0)
    return Block(
        *(
            rng.integers(2, config.vocab_size, (rows, length)).astype(np.int32)
            for length in (input_length, target_length)
        )
    )


# -------------------------------------------------------------------------------- golden numbers


def golden(settings: Settings) -> None:
    """The largest differences from the golden numbers, and what arithmetic of lower precision changes."""
    import jax

    emit_device(settings)
    with jax.default_matmul_precision("highest"):
        for model in ("t5_1_0", "t5_1_1"):
            for what, difference, limit in golden_model(GOLDEN, model):
                emit_difference(settings, f"{model} {what}", difference, limit)
        for what, difference, limit in golden_adafactor(GOLDEN):
            emit_difference(settings, what, difference, limit)
    precision(settings)


def emit_difference(settings: Settings, what: str, difference: float, limit: float) -> None:
    verdict = "ok" if difference <= limit else "TOO FAR"
    emit(settings, "golden numbers", what=what, **{"largest difference": difference}, limit=limit, verdict=verdict)


def golden_model(folder: Path, model: str) -> Iterator[tuple[str, float, float]]:
    """For each comparison: what was compared, the difference and its limit."""
    import jax
    import numpy as np

    from raysynth.model import optimizer
    from raysynth.model.decode import generate
    from raysynth.model.t5 import T5, flat_params, loss_and_counts, nested_params
    from raysynth.specs.models import T5Config

    described = json.loads((folder / f"model/model_{model}.json").read_text())["config"]
    del described["dropout_rate"]
    described["mlp_activations"] = tuple(described["mlp_activations"])
    network = T5(T5Config(**described))
    arrays = read(folder / f"model/model_{model}.npz")
    flat = {path.removeprefix("params/"): leaf for path, leaf in arrays.items() if path.startswith("params/")}
    params = nested_params(flat)
    sources, targets = arrays["encoder_input_tokens"], arrays["decoder_target_tokens"]
    real = targets > 0

    @partial(jax.jit, static_argnums=1)
    def run(params, z_loss):
        def loss(params):
            logits = network.apply({"params": params}, sources, targets)
            return loss_and_counts(logits, targets, z_loss=z_loss, label_smoothing=0.0)["loss"], logits

        return jax.value_and_grad(loss, has_aux=True)(params)

    (loss, logits), gradients = run(params, 0.0)
    gradients = flat_params(gradients)
    yield "logits against T5X", to_scale(logits[real], arrays["logits"][real]), 1e-5
    yield "logits against Hugging Face", to_scale(logits[real], arrays["hf_logits"][real]), 1e-5
    yield "loss", to_scale(loss, arrays["loss_sum_z0"]), 1e-6
    stored = {path: arrays[f"grads_z0/{path}"] for path in gradients if f"grads_z0/{path}" in arrays}
    furthest = max(to_scale(gradients[path], expected) for path, expected in stored.items())
    yield "gradients, each to its own scale", furthest, 1e-4

    described = json.loads((folder / "train/train_5_steps.json").read_text())[model]
    expected, losses = described["loss_sum_before_each_step_and_at_the_end"], []
    moved, state = params, optimizer.init(params)
    for rate in described["learning_rates"]:
        (loss, _), gradients = run(moved, described["z_loss"])
        losses.append(float(loss))
        moved, state = jax.jit(optimizer.update)(gradients, state, moved, np.float32(rate))
    losses.append(float(run(moved, described["z_loss"])[0][0]))
    yield "losses of 5 training steps", to_scale(np.array(losses), np.array(expected)), 1e-5

    if model == "t5_1_0":  # as in the reference, so that its hypotheses end
        flat["decoder/decoder_norm/scale"] = flat["decoder/decoder_norm/scale"] * np.float32(1.5)
    searches = read(folder / "decoding/beam_search.npz")
    for num_beams, length in ((4, 16), (4, 10), (1, 16)):
        sequences, scores = generate(network, nested_params(flat), sources, decode_length=length, num_beams=num_beams)
        name = f"{model}/beam{num_beams}_len{length}"
        what = f"{num_beams} beams, {length} tokens"
        differing = np.mean(np.asarray(sequences) != searches[f"{name}/sequences"][:, -1])
        yield f"{what}: share of differing tokens", float(differing), 0.0
        yield f"{what}: scores", to_scale(scores, searches[f"{name}/scores"][:, -1]), 1e-5


def golden_adafactor(folder: Path) -> Iterator[tuple[str, float, float]]:
    """Like `golden_model`, for ten steps of the optimizer."""
    import jax
    import numpy as np

    from raysynth.model import optimizer

    described = json.loads((folder / "optimizer/adafactor.json").read_text())
    arrays, names = read(folder / "optimizer/adafactor.npz"), list(described["params"])
    for schedule, rates in described["learning_rates"].items():
        params, furthest = {name: arrays[f"params0/{name}"] for name in names}, 0.0
        state = optimizer.init(params)
        for index, rate in enumerate(rates):
            gradients = {name: arrays[f"grads/{name}"][index].astype(np.float32) for name in names}
            params, state = jax.jit(optimizer.update)(gradients, state, params, np.float32(rate))
            for name in names:
                probed = np.ravel(params[name])[arrays[f"{schedule}/probe_index/{name}"]]
                furthest = max(furthest, to_scale(probed, arrays[f"{schedule}/probe/{name}"][index]))
        yield f"Adafactor, {schedule}", furthest, 1e-6


def read(file: Path) -> dict[str, Any]:
    """The arrays of a file by name."""
    import numpy as np

    with np.load(file) as arrays:
        return {name: arrays[name] for name in arrays.files}


def to_scale(values: Any, expected: Any) -> float:
    """The largest difference, relative to the largest expected value, or to 1e-3 if that is smaller."""
    import numpy as np

    return float(np.abs(np.asarray(values) - expected).max() / max(np.abs(expected).max(), 1e-3))


def precision(settings: Settings) -> None:
    """How much arithmetic of lower precision changes the loss and the direction of the gradients."""
    import jax

    from raysynth.model.t5 import init_params
    from raysynth.specs.models import Dtype

    config = dataclasses.replace(small_model(settings), num_encoder_layers=2, num_decoder_layers=2)
    block, params = (
        random_block(config, 8, *((32, 8) if settings.tiny else (512, 114))),
        init_params(config, jax.random.key(0)),
    )
    reference, expected = loss_and_gradients(dataclasses.replace(config, dtype=Dtype.FLOAT32), block, params, "highest")
    for dtype in (Dtype.FLOAT32, Dtype.BFLOAT16):
        value, gradients = loss_and_gradients(dataclasses.replace(config, dtype=dtype), block, params, "default")
        lowest, path = lowest_cosine(gradients, expected)
        emit(
            settings,
            "precision against float32 with the highest products",
            activations=str(dtype),
            products="default",
            **{"loss, relative": value / reference - 1, "lowest cosine of a gradient": lowest, "of": path},
        )


def loss_and_gradients(config: Any, block: Any, params: Any, products: str) -> tuple[float, dict[str, Any]]:
    """The loss per target, and the gradients by path."""
    import jax
    import numpy as np

    from raysynth.model.t5 import T5, flat_params, loss_and_counts

    network = T5(config)

    def loss(params):
        logits = network.apply({"params": params}, *block)
        counts = loss_and_counts(logits, block.decoder_target_tokens, z_loss=1e-4, label_smoothing=0.0)
        return counts["loss"] / counts["weight"]

    with jax.default_matmul_precision(products):
        value, gradients = jax.jit(jax.value_and_grad(loss))(params)
    return float(value), {path: np.ravel(leaf) for path, leaf in flat_params(gradients).items()}


def lowest_cosine(gradients: dict[str, Any], expected: dict[str, Any]) -> tuple[float, str]:
    """The lowest cosine of a parameter's gradients, and that parameter."""
    import numpy as np

    def cosine(left: Any, right: Any) -> float:
        left, right = left.astype(np.float64), right.astype(np.float64)
        return float(left @ right / max(np.sqrt((left @ left) * (right @ right)), 1e-30))

    return min((cosine(gradients[path], expected[path]), path) for path in expected)


# -------------------------------------------------------------------------------- steps


def steps(settings: Settings) -> None:
    """The time of training steps, case by case."""
    peak = emit_device(settings)
    for model, layout, attention in settings.cases:
        case = [model, layout, attention]
        about = {
            "model": model,
            "layout": layout,
            "attention": attention,
            "deterministic": "yes" if DETERMINISTIC in os.environ["XLA_FLAGS"] else "no",
        }
        if settings.seconds_left < (0 if settings.tiny else 15):
            emit(settings, "training steps", case=case, **about, remark="no time left")
            continue
        try:
            agreement = {} if attention == "raysynth" else agreement_of_gradients(settings, attention)
            with attention_of(attention):
                measured = step_that_fits(settings, model, layout, peak)
        except Exception as error:  # what one case refuses does not end the others
            emit(settings, "training steps", case=case, **about, remark=f"refused: {one_line(error)}")
        else:
            emit(settings, "training steps", case=case, **about, **measured, **agreement)


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def step_that_fits(settings: Settings, model: str, layout: str, peak: float | None) -> Row:
    """The time of a step of the largest batch that fits."""
    batch_size = 8 if settings.tiny else settings.batch_size
    while True:
        try:
            return measured_step(settings, model, layout, batch_size, peak)
        except Exception as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or batch_size == 1:
                raise
            print(f"  {model}, {layout}: {batch_size} examples do not fit", flush=True)
        batch_size //= 2


def measured_step(settings: Settings, model: str, layout: str, batch_size: int, peak: float | None) -> Row:
    """The time of a bfloat16 training step of the paper's pre-training, without compilation."""
    import jax
    import numpy as np

    from raysynth import T5_BASE
    from raysynth.model.devices import named_key, place_steps
    from raysynth.model.step import TrainState, train_steps
    from raysynth.model.t5 import T5, init_params
    from raysynth.specs.flops import training_flops
    from raysynth.specs.models import Dtype
    from raysynth.tokens.streams import Purpose

    small, length = small_model(settings), 16 if settings.tiny else LENGTH
    config = dataclasses.replace(T5_BASE if model == "T5 Base" and not settings.tiny else small, dtype=Dtype.BFLOAT16)
    block = (
        packed_block(settings, batch_size) if layout == "packed" else random_block(config, batch_size, length, length)
    )
    blocks, network = place_steps([(block,)]), T5(config, dropout_rate=0.1)
    state, key = TrainState.start(init_params(config, jax.random.key(0))), named_key(0, Purpose.PRETRAIN_DROPOUT)
    rates = np.array([0.01], np.float32)
    warm_up, timed = (1, 1) if settings.tiny else (3, 20)
    losses, started, compiling = [], time.perf_counter(), 0.0
    for step in range(warm_up + timed):
        if step == warm_up:
            jax.block_until_ready(state.params)
            started = time.perf_counter()
        state, counts = train_steps(network, state, blocks, rates, key, z_loss=0.0, label_smoothing=0.0)
        if step == 0:
            losses.append(float(counts["loss"][0] / counts["weight"][0]))
            compiling = time.perf_counter() - started
    jax.block_until_ready(state.params)
    seconds = (time.perf_counter() - started) / timed
    rows, input_length = block.encoder_input_tokens.shape
    target_length = block.decoder_target_tokens.shape[1]
    flops = training_flops(config, num_rows=rows, input_length=input_length, target_length=target_length)
    memory = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "examples": batch_size,
        "shape": f"{rows} x {input_length}/{target_length}",
        "ms": 1e3 * seconds,
        "examples/s": batch_size / seconds,
        "TFLOP/s": flops / seconds / 1e12,
        "MFU %": None if peak is None else 100 * flops / seconds / 1e12 / peak,
        "peak GiB so far": None if memory is None else memory / 2**30,
        "s to compile": compiling,
        "loss": f"{losses[0]:.2f} -> {float(counts['loss'][0] / counts['weight'][0]):.2f}",
    }


def packed_block(settings: Settings, batch_size: int) -> Any:
    """A batch of Set in the layout that fits its lengths."""
    import numpy as np

    from raysynth import synthetic_tasks
    from raysynth.data.batches import Examples
    from raysynth.data.layout import Packed

    task = synthetic_tasks["set"].tiny() if settings.tiny else synthetic_tasks["set"]
    sources, targets = task.draw(np.random.default_rng(0), 10_000)
    examples = Examples(sources=sources, targets=targets, prefix=task.prefix)
    layout = Packed.fitting(examples, batch_size=batch_size, input_length=LENGTH, target_length=LENGTH)
    return layout.to_blocks(examples.take(np.arange(batch_size)))[0]


@contextmanager
def attention_of(name: str) -> Iterator[None]:
    """Within this context, attention is computed as named; only to compare, since raysynth has one attention."""
    import jax

    from raysynth.model.t5 import Attention

    if name == "raysynth":
        yield
        return
    ours = Attention.attend
    jax.clear_caches()  # compiled steps are found by the network, which is the same
    Attention.attend = attend_by(name.rpartition(" ")[2])
    try:
        yield
    finally:
        Attention.attend = ours
        jax.clear_caches()


def attend_by(implementation: str) -> Callable[..., Any]:
    """`Attention.attend` by `jax.nn.dot_product_attention`, with T5's bias as `bias`."""
    import jax
    import jax.numpy as jnp

    def attend(self: Any, x: Any, keys: Any, values: Any, bias: Any) -> Any:
        query, values = self._heads(self.query(x)), self.value_dropout(values)
        bias = jnp.broadcast_to(bias, (*bias.shape[:-2], query.shape[-2], keys.shape[-2])).astype(query.dtype)
        query, keys, values = (jnp.swapaxes(array, -2, -3) for array in (query, keys, values))
        mixed = jax.nn.dot_product_attention(query, keys, values, bias=bias, scale=1.0, implementation=implementation)
        return self.out(mixed.reshape(*mixed.shape[:-2], -1))

    return attend


def agreement_of_gradients(settings: Settings, attention: str) -> Row:
    """The lowest cosine of a parameter's bfloat16 gradients with those of raysynth's attention, in a small model."""
    import jax

    from raysynth import T5_SMALL
    from raysynth.model.t5 import init_params
    from raysynth.specs.models import Dtype

    config = dataclasses.replace(
        T5_SMALL,
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_heads=2,
        emb_dim=128,
        mlp_dim=256,
        dtype=Dtype.BFLOAT16,
    )
    block, params = packed_block(settings, 8), init_params(config, jax.random.key(0))
    _, expected = loss_and_gradients(config, block, params, "default")
    with attention_of(attention):
        _, gradients = loss_and_gradients(config, block, params, "default")
    lowest, path = lowest_cosine(gradients, expected)
    return {"lowest cosine of a gradient": lowest, "of": path}


# -------------------------------------------------------------------------------- decoding


def decoding(settings: Settings) -> None:
    """Tokens per second of greedy and of beam search on random parameters, whose hypotheses hardly ever end early."""
    import jax
    import numpy as np

    from raysynth.model.decode import generate
    from raysynth.model.devices import place
    from raysynth.model.t5 import T5, init_params
    from raysynth.specs.models import Dtype

    emit_device(settings)
    rows, input_length, decode_length = (4, 16, 8) if settings.tiny else (128, 512, 128)
    config = dataclasses.replace(small_model(settings), dtype=Dtype.BFLOAT16)
    network, params = T5(config), init_params(config, jax.random.key(0))
    sources = place((random_block(config, rows, input_length, 2),))[0].encoder_input_tokens
    for num_beams in settings.cases:
        run = partial(generate, network, params, sources, decode_length=decode_length, num_beams=num_beams)
        started = time.perf_counter()
        sequences = np.asarray(run()[0])
        compiling, seconds = time.perf_counter() - started, []
        for _ in range(1 if settings.tiny else 5):
            started = time.perf_counter()
            jax.block_until_ready(run())
            seconds.append(time.perf_counter() - started)
        median, num_tokens = sorted(seconds)[len(seconds) // 2], int(np.count_nonzero(sequences))
        emit(
            settings,
            "decoding, T5 Small in bfloat16",
            case=num_beams,
            beams=num_beams,
            shape=f"{rows} x {input_length} -> {decode_length}",
            **{"ms": 1e3 * median, "tokens": num_tokens, "tokens/s": num_tokens / median, "s to compile": compiling},
        )


# -------------------------------------------------------------------------------- a cell of Table 6


def cell(settings: Settings) -> Any:
    """The fine-tuning on MTOP from Set: the paper's, or a tiny one."""
    from raysynth import Finetune
    from raysynth.paper import TASKS, initialization
    from raysynth.specs.datasets import TrainedVocabulary
    from raysynth.specs.tiny import tiny

    task = TASKS["MTOP"]
    if settings.tiny:  # a vocabulary of its own, since T5's may not be at hand
        task = dataclasses.replace(
            task, data=dataclasses.replace(task.data, vocabulary=TrainedVocabulary(num_pieces=128))
        )
    finetune = Finetune(task=task, init=initialization("Set", task, 0))
    return tiny(finetune) if settings.tiny else finetune


def draws(settings: Settings) -> None:
    """Draw the data of Set and encode those of MTOP, on the CPU."""
    os.nice(10)
    from raysynth.data.manifest import write_manifest
    from raysynth.data.text_pairs import generate_text
    from raysynth.specs.identity import name
    from raysynth.store.store import Store

    store, finetune = Store(str(settings.store)), cell(settings)
    if settings.data and (Path(settings.data) / "mtop").is_dir():
        started = time.perf_counter()
        manifest = generate_text(finetune.task.data, store, {"mtop": f"{settings.data}/mtop"})
        emit_data(settings, "MTOP", manifest, started)
    started, dataset = time.perf_counter(), finetune.init.source.data
    manifest = drawn(dataset, store)
    write_manifest(manifest, store, name(dataset))
    emit_data(settings, "Set", manifest, started)


def emit_data(settings: Settings, name: str, manifest: Any, started: float) -> None:
    rows = {str(split): count for split, count in sorted(manifest.num_rows.items())}
    emit(settings, "data", of=name, **rows, seconds=time.perf_counter() - started)


def drawn(dataset: Any, store: Any) -> Any:
    """Draw a synthetic data set into the store in this process; returns its manifest. The data are those of a sweep."""
    import itertools
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from raysynth.data.draws import draw_shard, num_more_shards, rewrite_shard, rows_by_split, settle_in_place, split_of
    from raysynth.data.duplicates import first_of_equals
    from raysynth.data.manifest import Manifest
    from raysynth.downstream.rows import Split
    from raysynth.specs.identity import name

    answers: list[Any] = []
    is_distinct = np.zeros(0, bool)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while is_distinct.sum() < dataset.num_validation + dataset.num_examples:
            more = num_more_shards(
                dataset, num_drawn=len(answers) * dataset.shard_size, num_distinct=int(is_distinct.sum())
            )
            answers += pool.map(partial(draw_shard, dataset, store), range(len(answers), len(answers) + more))
            is_distinct = first_of_equals(np.concatenate([hashes for _, hashes in answers]))
        starts = [0, *itertools.accumulate(len(hashes) for _, hashes in answers)]
        plan = rows_by_split(dataset, [is_distinct[start:end] for start, end in itertools.pairwise(starts)])
        splits: dict[Split, list[Any]] = {Split.VALIDATION: [], Split.TRAIN: []}
        for (shard, _), rows in zip(answers, plan, strict=True):
            if rows:
                settled = settle_in_place(name(dataset), store, shard, rows) or rewrite_shard(
                    name(dataset), store, (shard, rows)
                )
                for file in settled.files:
                    splits[split_of(file.file)].append(file)
    return Manifest(
        splits={split: tuple(sorted(files, key=lambda file: file.file)) for split, files in splits.items()},
        prefix=tuple(dataset.task.prefix),
    )


def watch(settings: Settings, evaluated: Callable[[int, dict[str, float]], None]) -> Any:
    """An observer that passes evaluations on, and raises `TimeoutError` once the time is over."""
    from raysynth.observer import Silent

    class Watch(Silent):
        def progress(self, artifact, progress):
            loss = progress.scalars.get("train/loss")
            print(f"    step {progress.step}{f', loss {loss:.3f}' if loss else ''}", flush=True)
            if settings.seconds_left < RESERVE_SECONDS:
                raise TimeoutError

        def evaluated(self, artifact, progress):
            evaluated(progress.step, {key.partition("/")[2]: value for key, value in progress.scalars.items()})

    return Watch()


RESERVE_SECONDS = 8.0
"""A training ends this long before its deadline, to finish its checkpoint."""


def pace(recipe: Any, model: Any, dataset: Any) -> float:
    """Seconds of a training step with its reading and packing, without compilation."""
    import jax
    import numpy as np

    from raysynth.data.batches import Order, Stream
    from raysynth.data.layout import Packed
    from raysynth.downstream.rows import Split
    from raysynth.model.devices import named_key, place_steps
    from raysynth.model.step import TrainState, train_steps
    from raysynth.model.t5 import T5, init_params
    from raysynth.tokens.streams import Purpose

    split, network = dataset.split(Split.TRAIN), T5(model, dropout_rate=recipe.dropout_rate)
    layout = Packed.fitting(
        split.read_ids([0]),
        batch_size=recipe.batch_size,
        input_length=recipe.input_length,
        target_length=recipe.target_length,
    )
    order = Order(shard_rows=split.shard_rows, batch_size=recipe.batch_size, purpose=Purpose.FINETUNE_ORDER, seed=0)
    state, key = TrainState.start(init_params(model, jax.random.key(0))), named_key(0, Purpose.TIMED_DROPOUT)
    warm_up, timed = 2, 2 if recipe.batch_size < 16 else 20
    started = 0.0
    with Stream(split, order) as stream:
        for step in range(warm_up + timed):
            blocks = place_steps([layout.to_blocks(stream.examples(step))])
            state, counts = train_steps(
                network,
                state,
                blocks,
                np.zeros(1, np.float32),
                key,
                z_loss=recipe.z_loss,
                label_smoothing=recipe.label_smoothing,
            )
            if step == warm_up - 1:
                jax.block_until_ready(counts)
                started = time.perf_counter()
    jax.block_until_ready(counts)
    return (time.perf_counter() - started) / timed


def pretraining(settings: Settings) -> None:
    """Pre-train on Set for as many of the 10,000 steps as fit."""
    from raysynth.data.stored_dataset import StoredDataset
    from raysynth.model.train import pretrain
    from raysynth.specs.identity import name

    emit_device(settings)
    spec = cell(settings).init.source
    data, directory = settings.store / name(spec.data), Path(settings.work) / "set"
    seconds = pace(spec, spec.model, StoredDataset.open(data))
    num_steps = max(NUM_EVALUATIONS, min(PRETRAIN_STEPS, spec.num_steps, int(0.85 * settings.seconds_left / seconds)))
    spec = dataclasses.replace(spec, num_steps=num_steps, eval_every=num_steps // NUM_EVALUATIONS)
    print(f"  {num_steps} steps of {1e3 * seconds:.1f} ms fit", flush=True)
    started = time.perf_counter()

    def evaluated(step: int, scores: dict[str, float]) -> None:
        emit(
            settings,
            "pre-training on Set",
            step=step,
            **{"token accuracy %": 100 * scores["token_accuracy"], "loss": scores["loss"]},
            seconds=time.perf_counter() - started,
        )

    try:
        pretrain(spec, data=data, directory=directory, observer=watch(settings, evaluated))
    except TimeoutError:
        print("  its time was over; MTOP starts from the last checkpoint", flush=True)


def latest_step(directory: Path) -> int:
    """The latest checkpoint's step, 0 if there is none."""
    return max((int(file.name) for file in directory.glob("checkpoints/*") if file.name.isdigit()), default=0)


def finetuning(settings: Settings) -> None:
    """Fine-tune on MTOP from one row of Table 6, for as many steps as fit or as the first row took."""
    import jax

    from raysynth import Finetune, RandomInit
    from raysynth.data.layout import Packed
    from raysynth.data.stored_dataset import StoredDataset
    from raysynth.downstream.rows import Split
    from raysynth.model.checkpoints import read_params
    from raysynth.model.evaluate import TextEvaluator
    from raysynth.model.t5 import T5
    from raysynth.model.train import finetune, finetune_start
    from raysynth.report.published import read_printed
    from raysynth.specs.identity import name
    from raysynth.specs.recipes import Best

    (row, num_steps), from_set = settings.cases[0], cell(settings)
    data, pretrained = settings.store / name(from_set.task.data), Path(settings.work) / "set"
    if not data.is_dir():
        emit(settings, CELL, case=row, init=row, remark="skipped: --data has no folder mtop")
        return
    source, source_step = from_set.init.source, latest_step(pretrained)
    if row == "Set" and not source_step:
        emit(settings, CELL, case=row, init=row, remark="skipped: the pre-training has no checkpoint")
        return
    init = from_set.init if row == "Set" else RandomInit(from_set.model)
    sources = {source: lambda: read_params(pretrained / "checkpoints", source_step)} if row == "Set" else {}
    task = dataclasses.replace(from_set.task, num_eval_examples=VALIDATION_EXAMPLES, selection=Best("token_f1"))
    emit_device(settings)
    started = time.perf_counter()

    def evaluated(step: int, scores: dict[str, float]) -> None:
        emit(
            settings,
            "validation on MTOP",
            init=row,
            step=step,
            **{"token accuracy %": 100 * scores["token_accuracy"], "exact match %": 100 * scores["exact_match"]},
            loss=scores["loss"],
            seconds=time.perf_counter() - started,
        )

    if num_steps is None:
        dataset = StoredDataset.open(data)
        seconds = pace(task, from_set.model, dataset)
        train, spec = dataset.split(Split.TRAIN), Finetune(task=task, init=init)
        layout = Packed.fitting(
            train.read_ids([0]),
            batch_size=task.batch_size,
            input_length=task.input_length,
            target_length=task.target_length,
        )
        evaluator = TextEvaluator(
            network=T5(spec.model),
            recipe=task,
            layout=layout,
            examples=dataset.split(Split.VALIDATION).read(),
            num_examples=task.num_eval_examples,
            vocabulary=dataset.vocabulary(),
        )
        params = jax.device_put(finetune_start(spec, {}))
        evaluator.all_scores(params)  # compiles
        before = time.perf_counter()
        scores = evaluator.all_scores(params)
        evaluation_seconds = time.perf_counter() - before
        evaluated(0, scores)
        free = 0.85 * settings.seconds_left - RESERVE_SECONDS - (NUM_EVALUATIONS + 1) * evaluation_seconds
        num_steps = max(1, min(task.num_steps, int(free / seconds)) // NUM_EVALUATIONS) * NUM_EVALUATIONS
        print(
            f"  {num_steps} steps of {1e3 * seconds:.1f} ms fit, an evaluation takes {evaluation_seconds:.1f} s",
            flush=True,
        )
    task = dataclasses.replace(task, num_steps=num_steps, eval_every=num_steps // NUM_EVALUATIONS)
    printed = read_printed("table6")[row, "MTOP"]
    about = {"init": row, "steps": num_steps, "pre-training steps": source_step if row == "Set" else 0}
    paper = {"printed exact match % (100,000 steps)": printed.values[0]}
    try:
        trained = finetune(
            Finetune(task=task, init=init),
            data=data,
            sources=sources,
            directory=Path(settings.work) / row,
            observer=watch(settings, evaluated),
        )
    except TimeoutError:
        emit(settings, CELL, case=row, **about, **paper, remark="its time was over before the test")
        return
    test = trained.result.test
    emit(
        settings,
        CELL,
        case=row,
        **about,
        **{"selected step": trained.result.selected_step, "test examples": trained.result.num_test},
        **{"test token accuracy %": 100 * test["token_accuracy"], "test exact match %": 100 * test["exact_match"]},
        **paper,
    )


CHILDREN: dict[str, Callable[[Settings], None]] = {
    "golden": golden,
    "steps": steps,
    "decoding": decoding,
    "draws": draws,
    "pretraining": pretraining,
    "finetuning": finetuning,
}

if __name__ == "__main__":
    sys.exit(main())

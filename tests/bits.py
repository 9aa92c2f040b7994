"""Prints digests of what a process computes; run by tests in processes with other settings."""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("JAX_", "XLA_", "NUMBA_", "NPY_", "PYTHON", "LC_", "RAYSYNTH_", "RAY_"))
    and name not in ("TZ", "LANG", "OMP_NUM_THREADS", "GLIBC_TUNABLES")
} | {"JAX_PLATFORMS": "cpu", "NPROC": "1", "PYTHONPATH": str(ROOT)}
"""An environment without anything that a user may have set."""


def digest(*parts: bytes) -> str:
    """SHA-256 over all parts."""
    return hashlib.sha256(b"".join(parts)).hexdigest()


def draws() -> str:
    """The digest of some examples of several synthetic tasks."""
    from raysynth import synthetic_tasks
    from raysynth.tokens.streams import Purpose, stream

    parts = []
    for name in ("set", "sort", "union", "lime", "dyck", "replace"):
        for rows in synthetic_tasks[name].draw(stream(Purpose.SHARD, 7, 1), 20):
            parts += [rows.values.tobytes(), rows.offsets.tobytes()]
    return digest(*parts)


def trained(data: Path) -> dict[str, str]:
    """The digests of a pre-training and of the parameters that an init scheme makes of it."""
    from raysynth import Finetune, StatisticInit
    from raysynth.model.checkpoints import params_digest, read_params
    from raysynth.model.train import finetune_start, pretrain
    from raysynth.observer import Silent
    from tests.model.tiny import PRETRAIN, TASK

    with tempfile.TemporaryDirectory() as directory:
        result = pretrain(PRETRAIN, data=data, directory=Path(directory), observer=Silent()).result
        params = read_params(Path(directory) / "checkpoints", result.selected_step)
    finetuning = Finetune(task=TASK, init=StatisticInit(PRETRAIN, group_by="parameter", statistic="mean_sd"))
    return {
        "pretrain": digest(result.params_sha256.encode(), json.dumps(dict(result.validation)).encode()),
        "finetune start": params_digest(finetune_start(finetuning, {PRETRAIN: params})),
    }


if __name__ == "__main__":
    print(json.dumps({"draws": draws(), **trained(Path(sys.argv[1]))}))

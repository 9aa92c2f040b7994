"""Hosts that can be had, with the rates that their makers publish: for estimates before there is any hardware."""

import re
from dataclasses import dataclass

from raysynth.errors import Named

UTILISATION = 0.2
"""Assumed share of the published rate that training and scoring reach. T5-small's matrices are small, and the optimizer
and the exchange of gradients take time without counting as FLOPs."""
STEP_SECONDS = 0.005
"""Assumed time of the shortest training step: the update of all parameters takes as long for few FLOPs."""
DECODING_UTILISATION = 0.02
"""Assumed share of the published rate that decoding reaches: every new token reads all weights from memory."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A host whose accelerators one trial uses."""

    num_chips: int
    flops_per_chip: float
    """Published peak rate of dense bfloat16 matrix products, in FLOP/s."""
    device: str
    """Pattern of the `device` that records and measured speeds of such a host have."""
    source: str
    """Where the rate is published."""

    @property
    def flops(self) -> float:
        """Published peak rate of the host, in FLOP/s."""
        return self.num_chips * self.flops_per_chip

    def is_device(self, device: str | None) -> bool:
        """Whether a record or a measured speed with that `device` is of such a host."""
        return device is not None and re.fullmatch(self.device, device) is not None


def _tpu(num_chips: int, teraflops: float, device: str, page: str) -> Machine:
    source = f"https://docs.cloud.google.com/tpu/docs/{page}"
    return Machine(num_chips=num_chips, flops_per_chip=teraflops * 1e12, device=device, source=source)


def _gpu(teraflops: float, name: str) -> Machine:
    source = f"https://www.nvidia.com/en-us/data-center/{name.lower()}/"
    return Machine(num_chips=1, flops_per_chip=teraflops * 1e12, device=f"1 NVIDIA {name}.*", source=source)


machines: Named[Machine] = Named(
    "machine",
    {
        # JAX counts the two cores of a v3 chip as devices of their own.
        "v3-8": _tpu(4, 123, "8 TPU v3", "v3"),
        "v4-8": _tpu(4, 275, "4 TPU v4", "v4"),
        **{f"v5litepod-{chips}": _tpu(chips, 197, f"{chips} TPU v5( lite|e)", "v5e") for chips in (1, 4, 8)},
        "v5p-8": _tpu(4, 459, "4 TPU v5p?", "v5p"),
        **{f"v6e-{chips}": _tpu(chips, 918, f"{chips} TPU v6( lite|e)", "v6e") for chips in (1, 4, 8)},
        "a100": _gpu(312, "A100"),
        "h100": _gpu(989, "H100"),
    },
)
"""Machines by the name of Google's accelerator type, or by one GPU, of the SXM form.

Google's pages give the peak compute per chip in bf16. The rates of the GPUs are those of dense products, half of those
that NVIDIA gives with sparsity.
"""

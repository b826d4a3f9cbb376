"""Images per second of a ResNet-32 training step, batch 128.

Where the CPU emulates bfloat16, the one figure of it is how many times as
long as in float32 a step takes.
"""

import importlib.util
import os
import statistics
from collections.abc import Callable

from benchmarks.steps import (
    PRECISIONS,
    fast_precisions,
    random_batch,
    single_step,
)
from benchmarks.turns import Variant, ratio, take_turns


def torch_step(precision: str) -> Callable[[int], None]:
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(os.cpu_count())

    class Block(nn.Module):
        def __init__(self, before: int, filters: int):
            super().__init__()
            self.strides = 1 if before == filters else 2
            self.missing = (filters - before) // 2
            self.conv1 = nn.Conv2d(
                before, filters, 3, self.strides, 1, bias=False
            )
            self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(filters)
            self.norm2 = nn.BatchNorm2d(filters)

        def forward(self, x):
            y = functional.relu(self.norm1(self.conv1(x)))
            y = self.norm2(self.conv2(y))
            if self.strides > 1:
                pad = (0, 0, 0, 0, self.missing, self.missing)
                x = functional.pad(x[:, :, ::2, ::2], pad)
            return functional.relu(y + x)

    filters = [16] * 5 + [32] * 5 + [64] * 5
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *map(Block, [16, *filters], filters),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), 0.01, momentum=0.9, weight_decay=2e-4
    )
    images, labels = random_batch()
    images = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels last
    labels = torch.from_numpy(labels)

    def run(steps: int) -> None:
        for _ in range(steps):
            inputs = (images.float() - 127.5) / 127.5
            with torch.autocast(
                "cpu", torch.bfloat16, enabled=precision == "bfloat16"
            ):
                logits = model(inputs)
            loss = functional.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def measure(rounds: int) -> dict:
    from keras_lt import hardware

    with_torch = importlib.util.find_spec("torch") is not None
    figures = {}
    for precision in fast_precisions():
        variants = {
            "keras_lt": Variant(single_step, precision),
            "keras_lt_without_onednn": Variant(
                single_step, precision, TF_ENABLE_ONEDNN_OPTS="0"
            ),
            "keras": Variant(single_step, precision, False),
        }
        if with_torch:
            variants["torch"] = Variant(torch_step, precision)
        speeds = take_turns(variants, rounds, steps=10)
        for name in ("keras_lt", "keras_lt_without_onednn", "keras", "torch"):
            figures[f"images_per_second_{name}_{precision}"] = (
                statistics.median(speeds[name]) if name in speeds else None
            )
        for name in ("keras_lt_without_onednn", "keras", "torch"):
            figures[f"ratio_over_{name}_{precision}"] = ratio(
                speeds, "keras_lt", name
            )
    # Under ONEDNN_MAX_CPU_ISA=AVX2 TensorFlow goes by the CPU that it sees, and
    # asks for kernels in bfloat16 that oneDNN then does not have.
    if hardware.emulates_bfloat16() and "ONEDNN_MAX_CPU_ISA" not in os.environ:
        variants = {name: Variant(single_step, name) for name in PRECISIONS}
        speeds = take_turns(variants, rounds, steps=2)
        figures["ratio_time_bfloat16_over_float32"] = ratio(
            speeds, "float32", "bfloat16"
        )
    return figures

"""Time and memory of tools/evaluate.py on logits of 8,142 classes.

50,000 test images in float32, of classes as long-tailed as those of iNaturalist
2018 (1,000 to 2 training images), alone and with a hold-out of 24,426 images.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TOOL = Path(__file__).resolve().parents[1] / "evaluate.py"
CLASSES = 8142


def answers(
    images: int, class_counts: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Logits with the prior of the training images, and labels."""
    generator = np.random.default_rng(seed)
    size = len(class_counts)
    labels = np.arange(images) % size
    logits = generator.standard_normal((images, size), np.float32)
    logits *= 1.5
    logits += np.log(class_counts / class_counts.sum()).astype(np.float32)
    logits[np.arange(images), labels] += 6
    return logits, labels


def write_answers(path: Path, images: int, holdout: int) -> None:
    ranks = np.arange(CLASSES) / (CLASSES - 1)
    class_counts = np.round(1000 * 500.0**-ranks).astype(int)
    logits, labels = answers(images, class_counts, 0)
    arrays = {"logits": logits, "labels": labels, "class_counts": class_counts}
    if holdout:
        logits, labels = answers(holdout, class_counts, 1)
        arrays |= {"holdout_logits": logits, "holdout_labels": labels}
    np.savez(path, **arrays)


def run_tool(path: Path) -> tuple[float, float, float]:
    """Seconds, seconds of processors, and megabytes at most."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, TOOL, f"--logits={path}", "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begin
    if process.returncode:
        raise RuntimeError(
            f"Expected exit code 0 of {TOOL.name}. "
            f"Received: {process.returncode}"
        )
    used = usage.ru_utime + usage.ru_stime
    return seconds, used, usage.ru_maxrss * 1024 / 1e6


def measure(rounds: int, images: int = 50_000, holdout: int = 24_426) -> dict:
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logits.npz"
        for name, held_out in (("", 0), ("_with_holdout", holdout)):
            write_answers(path, images, held_out)
            seconds, used, megabytes = zip(
                *(run_tool(path) for _ in range(rounds)), strict=True
            )
            figures |= {
                f"seconds{name}": statistics.median(seconds),
                f"processor_seconds{name}": statistics.median(used),
                f"process_megabytes{name}": max(megabytes),
            }
    return figures

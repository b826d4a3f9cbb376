"""Loads a SavedModel with TensorFlow alone, and measures how it serves.

    python tools/serve_check.py saved_model --requests=10000 --threads=4

First latency and images per second by batch size, one request after the other.
Then requests of one image each, from several threads of one process, each
answer compared with what the image got alone. Exit code 1 if a request failed
or got another answer. `--output` writes the figures as JSON; as
recipes/results/benchmark_serve_check.json README quotes them.

A SavedModel is a program: it can read and write files. Run none that you don't
trust.
"""

import argparse
from pathlib import Path

import command_line


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="Folder of a SavedModel."
    )
    parser.add_argument(
        "--requests",
        type=command_line.positive,
        default=1_000,
        help="Requests from all threads (default: %(default)s).",
    )
    parser.add_argument(
        "--threads",
        type=command_line.positive,
        default=4,
        help="Threads that send requests (default: %(default)s).",
    )
    parser.add_argument(
        "--batch_sizes",
        type=command_line.positive,
        nargs="+",
        default=[1, 8, 32, 128],
        help="Images per request, one after the other (default: 1 8 32 128).",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=3.0,
        help="Time for each batch size (default: %(default)s).",
    )
    command_line.add_output(parser, "JSON file to write.")
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

WARM_UP = 5  # requests
DISTINCT = 16  # images that the threads ask for


def by_batch_size(
    serve: Callable, images: Callable, batch_size: int, seconds: float
) -> dict[str, float]:
    """Latency and speed of requests of one size, for so many seconds."""
    batch = images(batch_size)
    for _ in range(WARM_UP):
        serve(images=batch)
    taken = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < 2:
        begin = time.perf_counter()
        serve(images=batch)["probabilities"].numpy()
        taken.append(time.perf_counter() - begin)
    p50, p99 = np.percentile(taken, [50, 99])
    return {
        f"milliseconds_p50_batch_{batch_size}": 1e3 * p50,
        f"milliseconds_p99_batch_{batch_size}": 1e3 * p99,
        f"images_per_second_batch_{batch_size}": (
            batch_size * len(taken) / sum(taken)
        ),
    }


def from_threads(
    serve: Callable, images: Callable, requests: int, threads: int
) -> tuple[dict[str, float], list[str]]:
    """Latency and speed of many requests at a time, and what went wrong."""
    distinct = [images(1) for _ in range(DISTINCT)]
    wanted = [serve(images=image)["logits"].numpy() for image in distinct]
    bounds = [1e-4 * np.abs(logits).max() for logits in wanted]
    taken, wrong = [], []

    def ask(thread):
        for number in range(thread, requests, threads):
            which = number % DISTINCT
            begin = time.perf_counter()
            try:
                got = serve(images=distinct[which])["logits"].numpy()
            except Exception as error:  # whatever it is, it is counted
                wrong.append(f"{type(error).__name__}: {error}")
                continue
            taken.append(time.perf_counter() - begin)
            difference = np.abs(got - wanted[which]).max()
            if not difference <= bounds[which]:
                wrong.append(f"logits that differ by {difference:.2g}")

    workers = [
        threading.Thread(target=ask, args=(thread,))
        for thread in range(threads)
    ]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - begin
    p50, p99 = np.percentile(taken or [0.0], [50, 99])
    return {
        "requests": requests,
        "threads": threads,
        "errors": len(wrong),
        "milliseconds_p50_threads": 1e3 * p50,
        "milliseconds_p99_threads": 1e3 * p99,
        "requests_per_second_threads": requests / seconds,
    }, wrong


def main() -> None:
    arguments = parse()
    begin = time.perf_counter()
    # Its variables live as long as what was loaded.
    loaded = tf.saved_model.load(arguments.model)
    figures = {"seconds_to_load": time.perf_counter() - begin}
    signatures = loaded.signatures
    if not {"serving_default", "serve_float"} <= set(signatures):
        raise ValueError(
            "Expected a SavedModel of keras_lt.export.save. Received: "
            f"{arguments.model} with signatures {', '.join(signatures)}"
        )
    serve = signatures["serving_default"]
    specs = [*signatures["serve_float"].structured_input_signature[1].values()]
    ranks = [spec.shape.rank for spec in specs]
    if ranks != [4] or None in specs[0].shape.as_list()[1:]:
        raise ValueError(
            "Expected a signature serve_float of images (B, H, W, channels). "
            f"Received: {arguments.model} with {specs!r:.200}"
        )
    (spec,) = specs
    outputs = sorted(serve.structured_outputs)
    if not {"logits", "probabilities"} <= {*outputs}:
        raise ValueError(
            "Expected a signature serving_default that gives logits and "
            f"probabilities. Received: {arguments.model} with {outputs}"
        )
    generator = np.random.default_rng(0)

    def images(count):
        shape = (count, *spec.shape[1:])
        return tf.constant(generator.integers(0, 256, shape, np.uint8))

    for batch_size in arguments.batch_sizes:
        figures |= by_batch_size(serve, images, batch_size, arguments.seconds)
    threaded, wrong = from_threads(
        serve, images, arguments.requests, arguments.threads
    )
    figures |= threaded
    for name, value in figures.items():
        print(f"{name:36}{value:12,.2f}")
    if arguments.output:
        environment = {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "platform": platform.platform(),
            "cpu_count": os.cpu_count(),
            "devices": [d.name for d in tf.config.list_physical_devices()],
            "model": str(arguments.model),
            "image_shape": list(spec.shape[1:]),
        }
        text = json.dumps(figures | {"environment": environment}, indent=1)
        arguments.output.write_text(f"{text}\n")
    if wrong:
        raise ValueError(
            f"Expected {arguments.requests} right answers. Received: "
            f"{len(wrong)} errors, the first one {wrong[0]}"
        )


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, MemoryError, tf.errors.OpError) as error:
        sys.exit(f"serve_check.py: error: {' '.join(str(error).split())}")

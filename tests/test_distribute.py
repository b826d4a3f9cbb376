"""Strategies: the same numbers on one device, two replicas, two processes."""

import contextlib
import dataclasses
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import recipe
import tensorflow as tf

from keras_lt import (
    datasets,
    distribute,
    metrics,
    models,
    report,
    streams,
)
from keras_lt.distribute import patches, strategies, waiting, workers

TESTS = Path(__file__).parent
LAUNCH = recipe.REPO / "tools" / "launch_local.py"
DIGITS = datasets.load("digits", split="train")
SMALL = (
    "--dataset=digits",
    "--imbalance_factor=20",
    "--augment=pad_crop_flip(1,flip=False)",
    "--backbone=cifar_resnet(8)",
    "--batch_size=32",
    "--learning_rate=warmup_step(0.1,[1],[0.1],warmup=1)",
    "--sync_batch_norm",
)
MULTI_WORKER = "--strategy=multi_worker"


def launched(*command, workers=2) -> subprocess.Popen:
    return subprocess.Popen(
        [
            sys.executable,
            str(LAUNCH),
            f"--workers={workers}",
            "--grace=300",  # a busy machine takes its time to say what is wrong
            "--",
            sys.executable,
            *map(str, command),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output_of(process: subprocess.Popen) -> list[str]:
    output, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    return output.splitlines()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What tests/replicas.py prints, by strategy; a list for the workers."""
    folder = functools.partial(tmp_path_factory.mktemp, "features")
    steps = "12"
    script = str(TESTS / "replicas.py")
    python = functools.partial(
        subprocess.Popen, stdout=-1, stderr=-1, text=True
    )
    processes = {
        "none": python([sys.executable, script, "none", "0", steps, folder()]),
        "mirrored": python(
            [sys.executable, script, "mirrored", "2", steps, folder()]
        ),
        "multi_worker": launched(script, "multi_worker", "0", steps, folder()),
    }
    lines = {name: output_of(process) for name, process in processes.items()}
    return {
        "none": json.loads(lines["none"][-1]),
        "mirrored": json.loads(lines["mirrored"][-1]),
        "multi_worker": [
            json.loads(line.split("] ", 1)[1])
            for line in sorted(lines["multi_worker"])
            if line.split("] ", 1)[1].startswith("{")
        ],
    }


@pytest.mark.parametrize(
    "kind", ["single", "dual_branch", "tuned", "contrastive"]
)
def test_losses_do_not_depend_on_the_strategy(found, kind):
    alone = found["none"][kind]
    assert len(alone["loss"]) == 12
    learned = 0.99 if kind == "tuned" else 0.8  # kernels stay at their start
    assert alone["loss"][-1] < learned * alone["loss"][0]
    others = [found["mirrored"], *found["multi_worker"]]
    assert len(others) == 3
    for other in others:
        np.testing.assert_allclose(
            other[kind]["loss"], alone["loss"], rtol=0, atol=1e-12
        )
        # Of the last step, as the epoch ends with it: counts of all replicas.
        assert other[kind]["logs"].keys() == alone["logs"].keys()
        for name, value in alone["logs"].items():
            np.testing.assert_allclose(
                other[kind]["logs"][name], value, rtol=0, atol=1e-5
            )


def test_processes_score_a_part_each_and_have_all(found):
    alone = found["none"]
    kept = datasets.long_tail(DIGITS, 20).labels.tolist()
    assert [other["shard"] for other in found["multi_worker"]] == [
        [0, 2],
        [1, 2],
    ]
    for other in [alone, found["mirrored"], *found["multi_worker"]]:
        assert other["labels"] == kept
        np.testing.assert_allclose(
            other["scores"], alone["scores"], rtol=0, atol=1e-6
        )
        # Each has computed a share of the parts, and reads those of all.
        np.testing.assert_allclose(
            other["features"], alone["features"], rtol=0, atol=1e-6
        )


def test_keras_still_has_the_defects_that_are_mended(found):
    """When this fails, a patch of Keras can go."""
    for worker in found["multi_worker"]:
        assert worker["defects"] == ["build", "reduce"]


def test_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="Expected a strategy: none, mirrored"):
        distribute.strategy("horovod")


def test_devices_of_one_device_are_refused():
    with pytest.raises(ValueError, match="devices=2 with none"):
        distribute.strategy("none", 2)


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": 3}'])
def test_wrong_tf_config_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="Expected TF_CONFIG to be JSON"):
        distribute.strategy("multi_worker")


def test_several_processes_need_names(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(ValueError, match="Expected TF_CONFIG or Slurm"):
        distribute.strategy("multi_worker")


def cluster(index, *ports):
    """TF_CONFIG of a process on this machine."""
    addresses = [f"127.0.0.1:{port}" for port in ports]
    return json.dumps(
        {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": index},
        }
    )


def free_ports(count):
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]


def test_a_worker_that_never_comes_is_named_again_and_again():
    code = (
        "from keras_lt import distribute\n"
        "from keras_lt.distribute import workers\n"
        "workers.SECONDS_TO_WAIT = 0.2\n"
        "distribute.strategy('multi_worker')"
    )
    ports = free_ports(2)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "TF_CONFIG": cluster(0, *ports)},
        stderr=subprocess.PIPE,
        text=True,
    )
    said = []
    for line in process.stderr:
        said += [line] if line.startswith("Waiting") else []
        if len(said) == 2:
            break
    assert said == [
        "Waiting for all workers, 1 minute so far: no answer from worker 1 "
        f"(127.0.0.1:{ports[1]})\n",
        "Waiting for all workers, 2 minutes so far: no answer from worker 1 "
        f"(127.0.0.1:{ports[1]})\n",
    ]
    process.kill()
    process.stderr.read()  # ends, since the one that prints does
    process.wait()


def test_those_that_answer_are_not_named(capsys):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        name, port = server.getsockname()
        waiting.say(3, {"worker 1": f"{name}:{port}", "worker 2": "nowhere:x"})
        waiting.say(4, {"worker 1": f"{name}:{port}"})
    assert capsys.readouterr().err.splitlines() == [
        "Waiting for all workers, 3 minutes so far: no answer from worker 2",
        "Waiting for all workers, 4 minutes so far: worker 1 can be reached, "
        "but did not join",
    ]


def test_a_port_that_is_in_use_is_refused(monkeypatch):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        monkeypatch.setenv("TF_CONFIG", cluster(0, port, 1))
        with pytest.raises(OSError, match=rf"127.0.0.1:{port} \(Address alre"):
            distribute.strategy("multi_worker")


@pytest.mark.parametrize(
    "text, message",
    [
        (cluster(0, "x", 1), "to be host:port. Received: '127.0.0.1:x'"),
        (cluster(0, 10**6, 1), "to be host:port. Received: '127.0.0.1:1000000"),
        (cluster(7, 1, 2), "Expected a task of the cluster. Received: task w"),
    ],
)
def test_clusters_that_are_none(text, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=message):
        distribute.strategy("multi_worker")


def test_auto_is_one_device_where_nothing_else_is_named(monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert distribute.strategy("auto") is tf.distribute.get_strategy()


def test_auto_takes_the_processes_that_slurm_names(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name, value in {
        "SLURM_PROCID": "3",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NODELIST": "node[1-2]",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    }.items():
        monkeypatch.setenv(name, value)
    assert strategies._suited() == "multi_worker"
    cluster = workers.cluster()
    assert cluster.cluster_spec().as_dict() == {
        "worker": ["node1:8888", "node1:8889", "node2:8888", "node2:8889"]
    }
    assert (cluster.task_type, cluster.task_id) == ("worker", 3)


def test_replicas_take_slices_of_the_global_batch(two_replicas):
    make = functools.partial(
        streams.stream, DIGITS, sampling="random", batch_size=8, seed=0
    )
    images, labels = next(iter(make()))
    parts = next(iter(distribute.dataset(two_replicas, make)))
    for whole, part in zip((images, labels), parts, strict=True):
        slices = two_replicas.experimental_local_results(part)
        np.testing.assert_array_equal(np.concatenate(slices), whole)


def tunes_queues(batches) -> list[bool]:
    """Of the queue in front of each device; tf.data tunes by default."""
    queues = iter(batches)._iterators[0]._iterator._device_iterators
    options = [queue._dataset.options() for queue in queues]
    return [option.autotune.enabled is not False for option in options]


def test_no_tuning_thread_delays_the_end_of_replicas(two_replicas, monkeypatch):
    make = functools.partial(
        streams.stream, DIGITS, sampling="random", batch_size=8, seed=0
    )
    batches = distribute.dataset(two_replicas, make)
    assert tunes_queues(batches) == [False, False]
    # When this fails, the patch of TensorFlow can go.
    (patch,) = (p for p in patches.PATCHES if p.package == "tensorflow")
    owner, name, replacement = patch.find()
    monkeypatch.setattr(owner, name, replacement.keras_lt_original)
    assert tunes_queues(batches) == [True, True]


def test_patches_are_applied_once_and_only_to_what_they_know():
    patches.apply()
    before = [patch.find()[2] for patch in patches.PATCHES]
    patches.apply()
    assert [patch.find()[2] for patch in patches.PATCHES] == before
    known = patches.PATCHES[1]
    for change in ({"name": "shard_per_replica"}, {"name": "None.reduce"}):
        other = dataclasses.replace(known, **change)
        with pytest.raises(RuntimeError, match=r"3.12 to below 3.16.*: none"):
            other.apply()
    changed = dataclasses.replace(
        known, module=__name__, name="free_ports", signature="(pid, name)"
    )
    with pytest.raises(
        RuntimeError, match=r"\(pid, name\).*\(count\), of keras"
    ):
        changed.apply()
    assert free_ports.__module__ == __name__


def test_nothing_is_replaced_for_one_device():
    code = (
        "import sys, keras_lt; from keras.src.backend.tensorflow import trainer"
        "\nkeras_lt.distribute.strategy('none')"
        "\nassert 'keras_lt.distribute.patches' not in sys.modules"
        "\nassert trainer.reduce_per_replica.__module__ == trainer.__name__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("patch", patches.PATCHES, ids=lambda patch: patch.name)
def test_no_version_is_allowed_beyond_those_of_the_patches(patch):
    """`tools/versions.sh newest` says whether both can be moved."""
    text = (recipe.REPO / "setup.cfg").read_text()
    allowed = re.findall(rf"^    {patch.package}>=[\d.]+,<([\d.]+)", text, re.M)
    assert {*allowed} == {patch.versions[1]}


def test_batch_that_replicas_do_not_divide_is_refused(two_replicas):
    make = functools.partial(
        streams.stream, DIGITS, sampling="random", batch_size=9, seed=0
    )
    with pytest.raises(ValueError, match=r"that the 2 replicas divide.*: 9"):
        distribute.dataset(two_replicas, make)


def test_replicas_score_a_part_of_each_batch(two_replicas):
    backbone = models.backbones.cifar_resnet(
        8, input_shape=(8, 8, 1), mean=[80.0], variance=[6400.0]
    )
    alone = models.classifier(backbone, 10)
    with two_replicas.scope():
        model = keras.models.clone_model(alone)
    model.set_weights(alone.get_weights())
    some = DIGITS.subset(np.arange(21))
    scores, labels = metrics.predict(
        model, functools.partial(streams.evaluation, some, 8)
    )
    expected, _ = metrics.predict(alone, streams.evaluation(some, 8))
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(labels, some.labels)


def test_recipe_in_two_processes_ends_as_in_one(tmp_path):
    arguments = [
        *SMALL,
        "--epochs=2",
        "--steps_per_epoch=5",
        "--holdout=0.2",
        "--learning_rate=warmup_step(0.0005,[1],[0.1],warmup=1)",
    ]
    alone = recipe.start(*arguments, f"--workdir={tmp_path / 'one'}")
    both = launched(
        recipe.path(), *arguments, MULTI_WORKER, f"--workdir={tmp_path / 'two'}"
    )
    output, _ = alone.communicate()
    assert alone.returncode == 0, output
    lines = output_of(both)
    assert not [line for line in lines if line.startswith("[worker 1]")]
    one, two = (
        report.Record.read(tmp_path / name / "result.json")
        for name in ("one", "two")
    )
    for name in ("loss", "balanced", "val_balanced"):
        np.testing.assert_allclose(
            two.history[name], one.history[name], rtol=1e-4
        )
    scores, expected = two.test["last"], one.test["last"]
    assert scores["num_images"] == 450
    assert scores["top1"] == pytest.approx(expected["top1"], abs=5 / 450)
    assert {path.name for path in (tmp_path / "two").iterdir()} == {
        path.name for path in (tmp_path / "one").iterdir()
    }
    served = tf.saved_model.load(tmp_path / "two" / "saved_model")
    logits = served.serving_default(DIGITS.images[:4])["logits"]
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("worker", [0, 1])
def test_dead_worker_is_named_and_the_run_goes_on(tmp_path, worker):
    arguments = [
        recipe.path(),
        *SMALL,
        MULTI_WORKER,
        "--steps_per_epoch=6",
        "--epochs=2",
        "--checkpoint_steps=3",
        f"--workdir={tmp_path}",
    ]
    dies = recipe.ended_by("SIGKILL", 4, worker)
    process = launched(*dies, *arguments)
    _, errors = process.communicate(timeout=600)  # the other one ends too
    assert process.returncode == 128 + signal.SIGKILL
    assert f"Worker {worker} was killed by SIGKILL" in errors
    assert (
        "Expected all processes of the run to go on. Received: the end of "
    ) in errors
    assert "the same command resumes the run" in errors
    if worker == 1:
        output_of(launched(*arguments))
        record = report.Record.read(tmp_path / "result.json")
        assert record.train["resumed"] == 1
        assert len(record.history["loss"]) == 2

"""Which precision is fast on which processor, and what a recipe makes of it."""

import json
import os
import subprocess
import sys

import keras
import pytest
import recipe
import tensorflow as tf
import training

from keras_lt import hardware

TINY = (
    "--dataset=digits",
    "--backbone=cifar_resnet(8)",
    "--epochs=2",
    "--steps_per_epoch=1",
    "--batch_size=8",
)
X86 = (
    "processor\t: 0\nmodel name\t: {}\nflags\t\t: fpu sse2 {}\nbogomips\t: 5\n"
)
CPUS = {
    "laptop": X86.format("Core i5", "avx avx2 fma"),
    "server": X86.format("Xeon", "avx2 avx512f avx512_vnni"),
    "epyc": X86.format("EPYC", "avx2 avx512f avx512_vnni avx512_bf16"),
    "xeon": X86.format("Xeon Max", "avx2 avx512f amx_bf16 amx_tile"),
    "arm": "processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\nCPU part\t: 1",
}


@pytest.fixture
def on_cpu(monkeypatch, tmp_path):
    """Makes this machine's CPU the one whose /proc/cpuinfo is given."""

    def pretend(cpuinfo):
        path = tmp_path / "cpuinfo"
        if cpuinfo is not None:
            path.write_text(cpuinfo)
        monkeypatch.setattr(hardware, "_CPUINFO", path)
        forget()

    def forget():
        hardware.cpu_name.cache_clear()
        hardware.cpu_features.cache_clear()

    yield pretend
    forget()


@pytest.mark.parametrize(
    "cpu, name, features, precision",
    [
        ("laptop", "Core i5", ("avx2",), "float32"),
        ("server", "Xeon", ("avx2", "avx512f", "avx512_vnni"), "float32"),
        (
            "epyc",
            "EPYC",
            ("avx2", "avx512f", "avx512_vnni", "avx512_bf16"),
            "mixed_bfloat16",
        ),
        ("xeon", "Xeon Max", ("avx2", "avx512f", "amx_bf16"), "mixed_bfloat16"),
    ],
)
def test_cpu(cpu, name, features, precision, on_cpu):
    on_cpu(CPUS[cpu])
    assert hardware.cpu_name() == name
    assert hardware.cpu_features() == features
    assert hardware.precision() == precision
    assert hardware.emulates_bfloat16() == (precision == "float32")
    assert hardware.summary()["cpu_features"] == list(features)


@pytest.mark.parametrize("cpuinfo", [CPUS["arm"], None])
def test_other_processors_train_in_float32(cpuinfo, on_cpu):
    on_cpu(cpuinfo)
    assert hardware.cpu_features() == ()
    assert hardware.cpu_name()
    assert hardware.precision() == "float32"


@pytest.mark.parametrize(
    "capabilities, precision",
    [
        ([(8, 0)], "mixed_bfloat16"),
        ([(9, 0), (8, 6)], "mixed_bfloat16"),
        ([(7, 5)], "mixed_float16"),
        ([(9, 0), (7, 0)], "mixed_float16"),
        ([(6, 1)], "float32"),
        ([None], "float32"),
    ],
)
def test_gpus(capabilities, precision, on_cpu, monkeypatch):
    on_cpu(CPUS["laptop"])
    details = {
        tf.config.PhysicalDevice(f"/physical_device:GPU:{number}", "GPU"): (
            {"compute_capability": capability} if capability else {}
        )
        for number, capability in enumerate(capabilities)
    }
    monkeypatch.setattr(
        tf.config,
        "list_physical_devices",
        lambda kind=None: list(details) if kind == "GPU" else [],
    )
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", details.get
    )
    assert hardware.precision() == precision
    assert not hardware.emulates_bfloat16()
    assert not hardware.misses_onednn()


def test_tpu(on_cpu, monkeypatch):
    on_cpu(CPUS["laptop"])
    tpu = tf.config.LogicalDevice("/device:TPU:0", "TPU")
    monkeypatch.setattr(
        tf.config,
        "list_logical_devices",
        lambda kind=None: [tpu] if kind == "TPU" else [],
    )
    assert hardware.precision() == "mixed_bfloat16"
    assert not hardware.emulates_bfloat16()


def test_onednn_is_what_tensorflow_says():
    script = "from keras_lt import hardware as h; print(h.has_onednn())"
    off = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    found = subprocess.run(
        [sys.executable, "-c", script], env=off, capture_output=True, text=True
    )
    assert found.stdout == "False\n", found.stderr
    assert hardware.has_onednn()  # conftest.py turns it on
    assert not hardware.misses_onednn()


def record_of(workdir):
    return json.loads((workdir / "result.json").read_text())


def test_auto_is_what_is_fast_here(monkeypatch, tmp_path, on_cpu, capsys):
    on_cpu(CPUS["laptop"])
    run = (*TINY, "--mixed_precision=auto", f"--workdir={tmp_path / 'run'}")
    assert not recipe.run(monkeypatch, *run, "--max_steps=1")
    record = record_of(tmp_path / "run")
    assert record["flags"]["mixed_precision"] == "none"
    assert record["train"]["precision"] == "float32"
    assert record["environment"]["cpu"] == "Core i5"
    assert record["environment"]["onednn"]
    assert "emulates" not in capsys.readouterr().out
    # On another machine the run goes on as it was begun.
    on_cpu(CPUS["epyc"])
    assert not recipe.run(monkeypatch, *run, "--max_steps=1")
    assert "Finished before" in capsys.readouterr().out
    assert not recipe.run(monkeypatch, *run, "--max_steps=1", "--overwrite")
    record = record_of(tmp_path / "run")
    assert record["flags"]["mixed_precision"] == "bfloat16"
    assert record["train"]["precision"] == "mixed_bfloat16"


def test_emulated_bfloat16_is_said(monkeypatch, tmp_path, on_cpu, capsys):
    on_cpu(CPUS["laptop"])
    monkeypatch.setattr(hardware, "misses_onednn", lambda: True)
    run = (*TINY, "--mixed_precision=bfloat16", f"--workdir={tmp_path / 'run'}")
    assert not recipe.run(monkeypatch, *run, "--max_steps=1")
    output = capsys.readouterr().out
    assert output.count("This CPU emulates bfloat16: training takes 2") == 1
    assert output.count("oneDNN is off: TF_ENABLE_ONEDNN_OPTS=1") == 1


def test_litert_needs_float32(monkeypatch, on_cpu):
    on_cpu(CPUS["epyc"])
    policy = keras.config.dtype_policy()
    try:
        for export, wanted in ((True, "none"), (False, "bfloat16")):
            found = training.set_precision("auto", None, False, export)
            assert found == wanted
    finally:
        keras.config.set_dtype_policy(policy)

"""tools/launch_local.py with real processes."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "launch_local.py"
# What scripts here begin with.
PRELUDE = """
import json, os, signal, socket, subprocess, sys, time
config = json.loads(os.environ["TF_CONFIG"])
index = config["task"]["index"]
"""
WAIT = """
print("ready", os.getpid())
time.sleep(600)
"""


def start(script, *flags, workers=2):
    command = (sys.executable, TOOL, f"--workers={workers}", *flags, "--")
    return subprocess.Popen(
        [*command, sys.executable, "-c", PRELUDE + script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(script, *flags, workers=2):
    """Exit status, lines of stdout in order, and stderr."""
    process = start(script, *flags, workers=workers)
    output, error = process.communicate(timeout=300)
    return process.returncode, output.splitlines(), error


def pids(process, workers=2):
    """Ids of the workers by index, from the lines of WAIT."""
    lines = set()
    while len(lines) < workers:
        lines.add(process.stdout.readline())
    return [int(line.split()[-1]) for line in sorted(lines)]


def lives(pid):
    with contextlib.suppress(FileNotFoundError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] != "Z"
    return False


def ends(*ids, within=100.0):
    """Whether these processes all end in that time."""
    limit = time.monotonic() + within
    while any(map(lives, ids)) and time.monotonic() < limit:
        time.sleep(0.01)
    return not any(map(lives, ids))


def test_each_worker_has_its_place_in_one_cluster():
    status, lines, error = run("print(json.dumps(config))", workers=3)
    assert (status, error) == (0, "")
    configs = {
        line[: len("[worker 0]")]: json.loads(line[len("[worker 0] ") :])
        for line in lines
    }
    assert sorted(configs) == ["[worker 0]", "[worker 1]", "[worker 2]"]
    assert [configs[f"[worker {i}]"]["task"] for i in range(3)] == [
        {"type": "worker", "index": i} for i in range(3)
    ]
    clusters = [config["cluster"] for config in configs.values()]
    assert clusters == clusters[:1] * 3
    hosts, ports = zip(
        *(address.split(":") for address in clusters[0]["worker"]), strict=True
    )
    assert hosts == ("127.0.0.1",) * 3
    assert len({*ports}) == 3


def test_ports_stay_free_for_a_server_and_for_nobody_else():
    # As gRPC does: SO_REUSEADDR, then bind and listen, on all interfaces.
    status, lines, error = run(
        """
port = int(config["cluster"]["worker"][index].split(":")[1])
blind = socket.socket()
try:
    blind.bind(("127.0.0.1", port))
except OSError:
    print("taken")
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("0.0.0.0", port))
server.listen()
socket.create_connection(("127.0.0.1", port), timeout=5)
print("served", server.accept()[1][0])
"""
    )
    assert (status, error) == (0, "")
    assert sorted(lines) == [
        "[worker 0] served 127.0.0.1",
        "[worker 0] taken",
        "[worker 1] served 127.0.0.1",
        "[worker 1] taken",
    ]


def test_lines_are_prefixed_and_whole():
    # Pieces of lines, flushed one by one by both workers at the same time.
    status, lines, error = run(
        """
for number in range(200):
    for piece in (f"{index}:", "x" * 3000, f":{number}\\n"):
        sys.stdout.write(piece)
        sys.stdout.flush()
sys.stdout.write("no newline")
sys.stderr.write("one\\n\\ntwo")
"""
    )
    assert status == 0
    for index in range(2):
        prefix = f"[worker {index}] "
        mine = [line for line in lines if line.startswith(prefix)]
        assert mine == [
            f"{prefix}{index}:{'x' * 3000}:{number}" for number in range(200)
        ] + [f"{prefix}no newline"]
        errors = [x for x in error.splitlines() if x.startswith(prefix)]
        assert errors == [f"{prefix}one", prefix, f"{prefix}two"]
    assert len(lines) == 402


def test_output_is_not_buffered():
    process = start(WAIT)
    assert len(pids(process)) == 2  # while they sleep
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)


def test_a_worker_that_closes_its_output_is_waited_for():
    status, _, _ = run(
        "os.close(1); os.close(2); time.sleep(0.5 + index); os._exit(index)"
    )
    assert status == 1


@pytest.mark.parametrize(
    "end, message, status",
    [
        ("sys.exit(7)", "failed with status 7", 7),
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL", 137),
        ("os.kill(os.getpid(), 11)", "was killed by SIGSEGV", 139),
    ],
)
def test_one_that_fails_is_named_and_ends_the_others(end, message, status):
    found, lines, error = run(
        f"""
if index == 1:
    print("last words")
    {end}
time.sleep(600)
""",
        workers=3,
    )
    assert found == status
    assert lines == ["[worker 1] last words"]
    assert error == f"Worker 1 {message}; ending the others.\n"


def test_the_last_worker_has_no_others():
    status, _, error = run("sys.exit(3)", workers=1)
    assert (status, error) == (3, "Worker 0 failed with status 3.\n")


def test_one_that_ends_well_ends_nobody():
    status, lines, error = run("time.sleep(index)\nprint('done')", "--grace=0")
    assert (status, error) == (0, "")
    assert sorted(lines) == ["[worker 0] done", "[worker 1] done"]


def test_one_that_ignores_sigterm_is_killed_after_the_grace(tmp_path):
    status, lines, error = run(
        f"""
ready = {str(tmp_path / "ready")!r}
if index == 0:
    def told(signum, frame):
        print("told at", time.monotonic())
    signal.signal(signal.SIGTERM, told)
    print("ready", time.monotonic())
    os.mkdir(ready)
    while True:
        time.sleep(600)
while not os.path.exists(ready):
    time.sleep(0.05)
print("failed at", time.monotonic())
sys.exit(1)
""",
        "--grace=1.5",
    )
    ended = time.monotonic()
    assert status == 1
    assert error == "Worker 1 failed with status 1; ending the others.\n"
    times = {line.split()[2]: float(line.split()[-1]) for line in lines}
    assert sorted(times) == ["failed", "ready", "told"]
    assert times["failed"] < times["told"]
    assert 1.5 < ended - times["told"] < 300


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_are_passed_on_once(name):
    # Each writes for a while, as a checkpoint is written, and ends by 143.
    process = start(
        f"""
def told(signum, frame):
    print("told", signal.Signals(signum).name)
    time.sleep(0.3 + 2 * index)
    print("written")
    sys.exit(143)
signal.signal(signal.{name}, told)
{WAIT}
"""
    )
    pids(process)
    process.send_signal(signal.Signals[name])
    output, error = process.communicate(timeout=300)
    assert process.returncode == 143
    assert error == "Worker 0 failed with status 143; ending the others.\n"
    told = sorted(line for line in output.splitlines() if name in line)
    assert told == [f"[worker {i}] told {name}" for i in range(2)]
    if name == "SIGTERM":  # a second one would have cut worker 1
        assert "[worker 1] written" in output


def test_sigkill_of_the_launcher_ends_the_workers():
    # They ignore what can be ignored, and print into a pipe without a reader.
    process = start(
        f"""
for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGPIPE"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
{WAIT}
"""
    )
    workers = pids(process)
    assert all(map(lives, workers))
    process.kill()
    process.communicate(timeout=300)
    assert ends(*workers)


@pytest.mark.parametrize("failed", ["sys.exit(0)", "sys.exit(1)", WAIT])
def test_what_a_worker_leaves_behind_ends_with_it(failed):
    process = start(
        f"""
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid)
{failed}
""",
        workers=1,
    )
    child = int(process.stdout.readline().split()[-1])
    if failed == WAIT:
        pids(process, 1)
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert ends(child)


def test_a_reader_that_is_gone_ends_all():
    process = start(
        """
while True:
    print("ready", os.getpid())
    time.sleep(0.1)
"""
    )
    workers = pids(process)
    process.stdout.close()
    assert ends(process.pid, *workers)
    assert "Broken pipe" in process.stderr.read()
    assert process.wait() == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--workers=0", "--", "true"), "Received: --workers=0"),
        (("--workers=2", "--grace=-1", "--", "true"), "Received: --grace=-1"),
        (("--workers=2", "--grace=nan", "--", "true"), "Received: --grace=nan"),
        (("--workers=2",), "Expected a command after --. Received: none"),
        (("--workers=2", "--"), "Expected a command after --. Received: none"),
        (("--workers=2", "--", "no/such"), "can be run. Received: no/such"),
        (("--workers=two", "--", "true"), "invalid int value: 'two'"),
        (("--", "true"), "arguments are required: --workers"),
        (("--workers=2", "true"), "unrecognized arguments: true"),
    ],
)
def test_errors(arguments, message):
    done = subprocess.run(
        [sys.executable, TOOL, *arguments], capture_output=True, text=True
    )
    assert done.returncode in (1, 2)
    error = done.stderr.splitlines()[-1]
    assert error.startswith("launch_local.py: error: ")
    assert message in error
    assert done.stdout == ""
    assert "Traceback" not in done.stderr

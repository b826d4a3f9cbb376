"""Says which processes of a cluster do not answer, each minute.

`keras_lt.distribute` runs it as a program of its own: while TensorFlow waits
for the other processes, no Python code runs in this one. It ends with its
standard input.
"""

import json
import select
import socket
import sys


def answers(address: str) -> bool:
    """Whether something listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), 5):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def say(minutes: int, others: dict[str, str]) -> None:
    """Prints what is known of `others`, addresses by name."""
    missing = [name for name, at in others.items() if not answers(at)]
    what = f"no answer from {', '.join(missing)}"
    if not missing:
        what = f"{', '.join(others)} can be reached, but did not join"
    print(
        f"Waiting for all workers, {minutes} minute{'s' * (minutes > 1)} so "
        f"far: {what}",
        file=sys.stderr,
        flush=True,
    )


def main() -> None:
    """Runs until standard input ends."""
    others, seconds = json.loads(sys.argv[1]), float(sys.argv[2])
    minutes = 0
    while not select.select([sys.stdin], [], [], seconds)[0]:
        minutes += 1
        say(minutes, others)


if __name__ == "__main__":
    main()

"""Progress bars of what takes more than seconds."""

import io
import sys
import time

import numpy as np
import pytest

from keras_lt import dpp, progress
from keras_lt.models import DLSA
from keras_lt.models.dlsa import ClassifierSettings, FlowSettings


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_terminal(monkeypatch):
    """Not a fixture: pytest sets standard output anew after these."""
    found = Terminal()
    monkeypatch.setattr(sys, "stdout", found)
    return found


@pytest.fixture
def bars(monkeypatch):
    """All that are made: (initial, how far they came, total)."""
    made = []
    make = progress.bar

    class Watched:
        def __init__(self, *arguments):
            self.bar = make(*arguments)

        def __enter__(self):
            self.first = self.bar.n
            return self.bar.__enter__()

        def __exit__(self, *error):
            made.append((self.first, self.bar.n, self.bar.total))
            return self.bar.__exit__(*error)

    monkeypatch.setattr(progress, "bar", Watched)
    return made


def test_is_shown_once_it_takes_more_than_a_second(monkeypatch):
    terminal = on_terminal(monkeypatch)
    with progress.bar("Quick", 2) as bar:
        bar.update(2)
    assert terminal.getvalue() == ""
    with progress.bar("Features", 4, "images", done=1) as bar:
        time.sleep(1.1)
        bar.update(1)
    shown = terminal.getvalue()
    assert "Features:  50%" in shown and "2/4" in shown and "s/ images" in shown


def test_is_quiet_where_there_is_no_terminal(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stdout", log)
    with progress.bar("Features", 2) as bar:
        time.sleep(1.1)
        bar.update(1)
    assert log.getvalue() == ""


def test_draws_count_images(monkeypatch, bars):
    on_terminal(monkeypatch)
    dpp.balanced_subset(np.repeat([0, 1, 2], [30, 9, 4]), 8, seed=0)
    assert bars == [(0, 43, 43)]


def test_levels_count_epochs(monkeypatch, bars, tmp_path):
    terminal = on_terminal(monkeypatch)
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [80, 40, 20])
    features = (generator.normal(size=(140, 4)) + labels[:, None]).astype("f4")
    settings = {
        "flow": FlowSettings(epochs=3, batch_size=70),
        "classifier": ClassifierSettings(epochs=2, batch_size=70),
        "directory": tmp_path,
    }
    # Two levels of a flow and a classifier, and the classifier of what is left.
    DLSA(3, 4, depth=2, num_clusters=4).fit_features(
        features, labels, **settings
    )
    assert bars == [(0, 12, 12)]
    # They are kept: a second start trains the last classifier alone.
    DLSA(3, 4, depth=2, num_clusters=4).fit_features(
        features, labels, **settings
    )
    assert bars[1:] == [(10, 12, 12)]
    assert "Epoch 1/" not in terminal.getvalue()  # one bar for all

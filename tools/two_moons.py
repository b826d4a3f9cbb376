"""Draws what DLSA's flow does to two moons: two classes become two clusters.

python tools/two_moons.py --output=recipes/results/two_moons.png
"""

import argparse

import command_line


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    command_line.add_output(parser, "Picture to write.", "two_moons.png")
    parser.add_argument(
        "--epochs",
        type=command_line.positive,
        default=60,
        help="Epochs of the training (default: %(default)s).",
    )
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below


import keras
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import make_moons

from keras_lt import features
from keras_lt.models import FlowGaussianMixture, MaskedAutoregressiveFlow
from keras_lt.models.dlsa import FlowSettings, FlowTrainer, reversed_weights

COLORS = ("#2f6eb5", "#c94f3d")


def trained(
    x: np.ndarray, labels: np.ndarray, epochs: int
) -> FlowGaussianMixture:
    keras.utils.set_random_seed(0)
    flow = MaskedAutoregressiveFlow(num_blocks=4, hidden_units=64)
    mixture = FlowGaussianMixture(2, 3.0, flow, seed=0)
    mixture.build(x.shape)
    trainer = FlowTrainer(
        mixture,
        reversed_weights(np.bincount(labels)),
        FlowSettings(contrast_factor=1.0),
    )
    trainer.compile(keras.optimizers.Adam(2e-3), jit_compile=False)
    pairs = features.pairs(
        features.Features(x, labels), 2, batch_size=256, seed=0
    )
    trainer.fit(
        pairs, epochs=epochs, steps_per_epoch=20, shuffle=False, verbose=0
    )
    return mixture


def draw(
    x: np.ndarray, labels: np.ndarray, mixture: FlowGaussianMixture
) -> tuple[Figure, float]:
    """The picture, and the share of samples in the cluster of their class."""
    u, _ = mixture.flow(x)
    clusters = np.asarray(mixture.assign(x))
    purity = max((clusters == labels).mean(), (clusters != labels).mean())
    figure = Figure(figsize=(9, 4), layout="constrained")
    for place, (points, title) in enumerate(
        ((x, "two moons, x"), (np.asarray(u), "after the flow, u")), 1
    ):
        axes = figure.add_subplot(1, 2, place)
        for label, color in enumerate(COLORS):
            own = labels == label
            axes.scatter(*points[own].T, s=5, color=color, linewidths=0)
        axes.set_title(title, loc="left")
        axes.set_aspect("equal", "datalim")
    axes.scatter(
        *mixture.means.numpy().T, marker="x", color="black", label="centers"
    )
    axes.legend(frameon=False)
    return figure, purity


def main() -> None:
    arguments = parse()
    x, labels = make_moons(1_500, noise=0.06, random_state=0)
    x = x.astype("float32")
    figure, purity = draw(x, labels, trained(x, labels, arguments.epochs))
    figure.savefig(arguments.output)
    print(f"{purity:.1%} in the cluster of their class: {arguments.output}")


if __name__ == "__main__":
    main()

"""Parts of convolutional networks."""

from typing import Any

import keras

from keras_lt.layers import PaddedShortcut


class Builder:
    """Makes the parts of one network. Layers are named after their places."""

    def __init__(
        self,
        l2: float,
        fan: str,
        batch_normalization: type[keras.layers.Layer],
        groups: int | None = None,
        padded_shortcuts: bool = False,
    ):
        self.regularizer = keras.regularizers.L2(l2) if l2 else None
        self.fan = fan
        self.batch_normalization = batch_normalization
        self.groups = groups
        self.padded_shortcuts = padded_shortcuts

    def stem(self, x: Any, kind: str, filters: int) -> Any:
        if kind == "small":
            return self.unit(x, filters, 1, "stem")
        x = self.unit(x, 64, 2, "stem", size=7)
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)

    def block(self, x: Any, filters: int, strides: int, name: str) -> Any:
        outputs = 2 * filters if self.groups else filters
        # The shortcut comes first: the order of layers decides which random
        # numbers their weights start from.
        shortcut = self.shortcut(x, outputs, strides, f"{name}_shortcut")
        if self.groups:
            x = self.unit(x, filters, 1, f"{name}_1", size=1)
            x = self.unit(x, filters, strides, f"{name}_2", groups=self.groups)
            x = self.convolution(x, outputs, 1, f"{name}_3", size=1)
            x = self.normalization(x, f"{name}_3")
        else:
            x = self.unit(x, filters, strides, f"{name}_1")
            x = self.convolution(x, filters, 1, f"{name}_2")
            x = self.normalization(x, f"{name}_2")
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
        return self.relu(x, name)

    def shortcut(self, x: Any, outputs: int, strides: int, name: str) -> Any:
        if x.shape[-1] == outputs:
            return x
        if self.padded_shortcuts:
            return PaddedShortcut(outputs, strides, name=name)(x)
        x = self.convolution(x, outputs, strides, name, size=1)
        return self.normalization(x, name)

    def unit(
        self, x: Any, filters: int, strides: int, name: str, **arguments: int
    ) -> Any:
        x = self.convolution(x, filters, strides, name, **arguments)
        return self.relu(self.normalization(x, name), name)

    def convolution(
        self,
        x: Any,
        filters: int,
        strides: int,
        name: str,
        size: int = 3,
        groups: int = 1,
    ) -> Any:
        if size > 1 and strides > 1:
            # Padding "same" would pad one side only, unlike published code.
            x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        return keras.layers.Conv2D(
            filters,
            size,
            strides,
            padding="valid" if strides > 1 else "same",
            groups=groups,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(
                2.0, self.fan, "untruncated_normal"
            ),
            kernel_regularizer=self.regularizer,
            name=f"{name}_conv",
        )(x)

    def normalization(self, x: Any, name: str) -> Any:
        return self.batch_normalization(
            momentum=0.9,
            epsilon=1e-5,
            gamma_regularizer=self.regularizer,
            beta_regularizer=self.regularizer,
            name=f"{name}_bn",
        )(x)

    def relu(self, x: Any, name: str) -> Any:
        return keras.layers.ReLU(name=f"{name}_relu")(x)

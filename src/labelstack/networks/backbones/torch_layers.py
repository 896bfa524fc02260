"""Layers as PyTorch has them: borders are padded alike on all sides, which Keras's ``same`` does not at stride 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops


@keras.saving.register_keras_serializable(package="labelstack")
class GroupedConvolution(layers.Conv2D):  # type: ignore[misc]
    """A convolution in groups of channels that also learns on a CPU.

    On a CPU TensorFlow has its gradients only where oneDNN takes a whole graph over, and Keras compiles it with XLA,
    which takes a thousand times as long there: without a GPU the gradients are those of the groups one by one. Weights
    and answers are those of ``Conv2D(groups=…)``.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Channels last; padding, strides and groups as the layer has them."""
        kernel = tf.identity(ops.convert_to_tensor(kernel))  # a variable would want gradients of its own
        strides, padding = [1, *self.strides, 1], self.padding.upper()
        if tf.config.list_logical_devices("GPU"):
            return tf.nn.conv2d(inputs, kernel, strides, padding)
        return _convolved_in_groups(self.groups, strides, padding)(inputs, kernel)


def _convolved_in_groups(groups: int, strides: list[int], padding: str) -> Callable[..., Any]:
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolved(inputs: Any, kernel: Any) -> Any:
        def gradients(upstream: Any) -> tuple[Any, Any]:
            parts = zip(
                tf.split(inputs, groups, -1), tf.split(kernel, groups, -1), tf.split(upstream, groups, -1), strict=True
            )
            found = [_gradients(x, k, dy, strides, padding) for x, k, dy in parts]
            return tf.concat([dx for dx, _ in found], -1), tf.concat([dk for _, dk in found], -1)

        return tf.nn.conv2d(inputs, kernel, strides, padding), gradients

    return convolved


def _gradients(inputs: Any, kernel: Any, upstream: Any, strides: list[int], padding: str) -> tuple[Any, Any]:
    places = {"strides": strides, "padding": padding}
    of_inputs = tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, **places
    )
    of_kernel = tf.raw_ops.Conv2DBackpropFilter(
        input=inputs, filter_sizes=tf.shape(kernel), out_backprop=upstream, **places
    )
    return of_inputs, of_kernel


def convolution(
    x: Any,
    filters: int,
    kernel: int | tuple[int, int],
    name: str,
    *,
    stride: int = 1,
    groups: int = 1,
    padding: str | None = None,
) -> Any:
    """Without bias; ``padding`` as in Keras, None: by half the kernel on all sides."""
    if padding is None and stride > 1 and isinstance(kernel, int) and kernel > 1:
        x, padding = padded(x, kernel // 2, f"{name}.pad"), "valid"
    maker = layers.Conv2D if groups == 1 else GroupedConvolution
    return maker(
        filters,
        kernel,
        stride,
        padding=padding or "same",
        groups=groups,
        use_bias=False,
        kernel_initializer=initializer(),
        name=name,
    )(x)


def depthwise(x: Any, kernel: int, name: str, *, stride: int = 1) -> Any:
    """Without bias, padded as TensorFlow does (``same``)."""
    return layers.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, depthwise_initializer=initializer(), name=name
    )(x)


def padded(x: Any, by: int, name: str) -> Any:
    """Zeros on all four sides."""
    return layers.ZeroPadding2D(by, name=name)(x)


def batch_norm(x: Any, name: str, *, epsilon: float = 1e-5, momentum: float = 0.9, gamma: str = "ones") -> Any:
    """With PyTorch's usual constants: what it calls a momentum of 0.1 is 0.9 here."""
    return layers.BatchNormalization(momentum=momentum, epsilon=epsilon, gamma_initializer=gamma, name=name)(x)


def rectified(x: Any, name: str) -> Any:
    """max(x, 0)."""
    return layers.ReLU(name=name)(x)


def max_pool(x: Any, name: str) -> Any:
    """3 × 3 at stride 2, padded by 1 on all sides; ``x`` is not negative, so zeros are as good as nothing."""
    return layers.MaxPooling2D(3, 2, name=name)(padded(x, 1, f"{name}.pad"))


def max_pool_ceil(x: Any, name: str) -> Any:
    """3 × 3 at stride 2 without padding, the last window may hang over the edge (PyTorch's ``ceil_mode``); x ≥ 0."""
    _, height, width, _ = x.shape
    over = ((0, 1 - height % 2), (0, 1 - width % 2))
    return layers.MaxPooling2D(3, 2, name=name)(layers.ZeroPadding2D(over, name=f"{name}.pad")(x))


def initializer() -> keras.initializers.Initializer:
    """He et al. 2015, by the number of outputs, as torchvision does."""
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")

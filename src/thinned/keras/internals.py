"""What depends on parts of Keras that are not its public interface, all in this file.

Keras's layers and the functions of `keras.random` look their draws up in one module, of which each
of Keras's backends has its own. A seed generator has no weights of its own, and is saved only where
it is a KerasSaveable. And a layer keeps its parts in lists that no public name shows.
"""

from __future__ import annotations

from typing import Any

try:
    from keras.src import backend as _backend
    from keras.src.backend.common import global_state as _global_state
    from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell
    from keras.src.saving.keras_saveable import KerasSaveable
    from keras.src.utils.naming import to_snake_case

    DRAWS: Any = _backend.random
    WORD: str = _backend.random_seed_dtype()
    # Where keras.remat finds how a function runs again; None where the library's compiler does it.
    REMAT: Any = _backend.core if _backend.backend() == "torch" else None
    _NEEDED = (
        DRAWS.dropout, DRAWS.normal, DRAWS.uniform, DropoutRNNCell._create_dropout_mask,
        _backend.core.remat,
    )  # fmt: skip
except (ImportError, AttributeError) as error:
    import keras

    raise ImportError(
        f"thinned.keras: Keras {keras.__version__} keeps its draws elsewhere than the versions "
        "that are known here. Install one that docs/keras.md names."
    ) from error

__all__ = [
    "DRAWS",
    "REMAT",
    "WORD",
    "DropoutRNNCell",
    "KerasSaveable",
    "forget_programs",
    "in_training",
    "parts_of",
    "to_snake_case",
]


def in_training() -> bool:
    """Whether the layer whose call is running is called in training."""
    context = _global_state.get_global_attribute("current_call_ctx")
    return bool(context is not None and context.get_value("training"))


def parts_of(layer: Any) -> tuple[list[Any], list[Any]]:
    """The layers and the seed generators that a layer holds itself, as they were made."""
    return list(layer._layers), list(layer._seed_generators)


def forget_programs(layer: Any) -> None:
    """What was made of a layer's variables, to be made anew: compiled steps of training, and
    PyTorch's list of its parameters."""
    for name in ("train_function", "test_function", "predict_function"):
        if getattr(layer, name, None) is not None:
            setattr(layer, name, None)
    if "_torch_params" in getattr(layer, "_modules", {}):
        layer._track_variables()

"""What an exception says, in one line."""

from importlib import import_module

import pytest

from nufed.conf.errors import InputError, reason


def test_an_error_with_words_of_its_own_keeps_them() -> None:
    """Also where a missing package is what led to it."""
    with pytest.raises(ModuleNotFoundError) as missing:
        import_module("nowhere")
    ours = InputError("export=onnx: needs nowhere; pip install it")
    ours.__cause__ = missing.value
    assert reason(ours) == "export=onnx: needs nowhere; pip install it"
    assert reason(missing.value) == "No module named 'nowhere'"

"""What an exception says, in one line."""

from importlib import import_module

import pytest

from conf.errors import InputError, reason


def test_an_error_with_words_of_its_own_keeps_them() -> None:
    """Also where a missing package is what led to it."""
    with pytest.raises(InputError) as caught:
        try:
            import_module("nowhere")
        except ImportError as error:
            raise InputError("export=onnx: needs nowhere; pip install it") from error
    assert reason(caught.value) == "export=onnx: needs nowhere; pip install it"
    assert caught.value.__cause__ is not None
    assert reason(caught.value.__cause__) == "No module named 'nowhere'"

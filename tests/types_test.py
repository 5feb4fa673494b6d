import pytest

from jaxstyle.types import InputError, unknown_choice


def test_an_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("maximum", "unknown pooling 'maximum'; did you mean 'max'? Choices: max, average."),
        ("averge", "unknown pooling 'averge'; did you mean 'average'? Choices: max, average."),
        ("zzz", "unknown pooling 'zzz'; choices: max, average."),
        ("", "unknown pooling ''; choices: max, average."),
    ],
)
def test_unknown_choice_names_the_nearest_and_all(given, message):
    error = unknown_choice("pooling", given, ("max", "average"))
    assert isinstance(error, InputError)
    assert str(error) == message


def test_unknown_choice_ignores_case_and_takes_any_sequence():
    error = unknown_choice("layer", "ReLU4_1", ["relu1_1", "relu4_1"])
    assert "did you mean 'relu4_1'?" in str(error)

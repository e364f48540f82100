import json
import math
from typing import Any

import pytest

from forge_notebook.trainer.cognate import CognateTrainer
from forge_notebook.trainer.config import DEMOS, ConfigError, TrainingConfig


def test_defaults_are_those_of_the_specification() -> None:
    config = TrainingConfig()
    assert (config.model_count, config.batch_size, config.learning_rate) == (3, 32, 0.001)
    assert (config.epochs, config.progress_update_interval) == (100, 10)
    assert (config.checkpoint_interval, config.max_retries, config.enable_recovery) == (
        100,
        3,
        True,
    )


def test_unknown_key_suggests_the_field_that_was_meant() -> None:
    with pytest.raises(ConfigError, match="'learning_rte'; did you mean 'learning_rate'"):
        TrainingConfig.from_dict({"learning_rte": 0.1})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_count", 0),
        ("model_count", True),
        ("model_count", 2.0),
        ("batch_size", 0),
        ("batch_size", "32"),
        ("learning_rate", -1),
        ("learning_rate", 0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("epochs", 0),
        ("progress_update_interval", 0),
        ("max_retries", -1),
        ("enable_recovery", 1),
        ("task", "grok"),
        ("corpus", ["python-docs"]),
        ("max_steps", 0),
        ("train_fraction", 1.0),
        ("threads", "many"),
        ("weight_decay", -0.1),
    ],
)
def test_impossible_value_names_field_value_and_range(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingConfig.from_dict({field: value})
    assert str(caught.value).startswith(f"{field}={value!r} is not possible: {field} must be ")


@pytest.mark.parametrize("demo", DEMOS)
def test_configuration_survives_json(demo: Any) -> None:
    config = TrainingConfig.demo(demo, seed=7)
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "modular", "batch_size": 5000}, "there are 1392 training examples"),
        ({"batch_size": 50_000}, "windows of seq_len=64"),
        ({"preset": "onehot"}, "use 'tiny'"),
        ({"batch_size": None}, "full batch"),
        ({"data": "/no/such/file"}, "cannot be read"),
        ({"task": "modular", "data": "text.txt"}, "leave `data` out"),
    ],
)
def test_what_the_data_cannot_give_is_refused_before_a_session_exists(
    changes: dict[str, Any], message: str, store: Any
) -> None:
    with pytest.raises(ConfigError, match=message):
        CognateTrainer(changes)
    assert not store.exists()


def test_text_too_short_for_a_window_is_refused() -> None:
    with pytest.raises(ConfigError, match="held-out text has"):
        CognateTrainer({"batch_size": 1}, data="too short " * 20)

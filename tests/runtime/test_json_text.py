"""What is written as JSON must be JSON to every reader."""

import json
import math

from medfuse.gesenet.training.run_folder import RunFolder
from medfuse.runtime.json_text import json_text


def refuse(name):
    raise AssertionError(f"{name} is not JSON")


def test_numbers_that_json_lacks_become_null():
    text = json_text({"a": [1.5, math.nan, (math.inf, "nan")], "b": {"c": -math.inf, "d": True}})
    assert json.loads(text, parse_constant=refuse) == {"a": [1.5, None, [None, "nan"]], "b": {"c": None, "d": True}}


def test_the_log_of_a_training_is_json_and_is_read_back_as_numbers(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_log([{"step": 1, "train_total": 0.5, "train_mask": math.nan, "validation_total": math.inf}])
    json.loads(folder.log.read_text(), parse_constant=refuse)
    (row,) = folder.rows()
    assert row["step"] == 1
    assert row["train_total"] == 0.5
    assert math.isnan(row["train_mask"])
    assert math.isnan(row["validation_total"])


def test_a_log_of_before_is_still_read(tmp_path):
    folder = RunFolder(tmp_path)
    folder.log.write_text('{"step": 1, "train_mask": NaN}\n')
    assert math.isnan(folder.rows()[0]["train_mask"])

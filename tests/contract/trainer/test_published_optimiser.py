"""What an operator writes under [training.descent] moves a real trainer's steps.

From the text of a task file over the task on the wire to a trainer's process: each key
makes the way of an update longer or shorter than plain steps do.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from starling.agent.training.trainer_messages import TrainerReportKind
from starling.coordinator.task_file.task_settings import TaskSettings, publication
from starling.protocol.learning.task import TASK
from starling.protocol.learning.vector_codecs import CODECS
from starling.protocol.schema.toml_settings import load_settings
from tests.contract.trainer.asked_trainer import Process
from tests.contract.trainer.test_engines import PACKED, RECORDS, order

_TASK = """
name = "descending"
momentum = 0.0
[training]
mode = "local"
epochs = 6
batch = {batch}
learning_rate = 0.05
[privacy]
mechanism = "none"
[training.descent]
{descent}
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One trainer's process for all."""
    found = Process(tmp_path_factory.mktemp("descent"))
    yield found
    found.trainer.stop()


def _way(process: Process, descent: str, batch: int = RECORDS) -> float:
    """How far the parameters went, as the update on the wire says it."""
    settings = load_settings(
        TaskSettings, _TASK.format(batch=batch, descent=descent), "task.toml"
    )
    spec = TASK.unpack(TASK.pack(publication(settings, PACKED, "task.toml").spec))
    wanted = replace(order(codec=0), training=spec.training)
    report = process.answer(wanted)
    assert report.kind == TrainerReportKind.READY
    process.trainer.resume()
    report = process.report()
    assert report.kind == TrainerReportKind.RESULT
    process.trainer.answered()
    vector = CODECS[0].decode(report.payload, wanted.dimension)
    return float(np.linalg.norm(np.asarray(vector, np.float64)))


@pytest.mark.parametrize(
    ("descent", "longer"),
    [
        pytest.param('optimiser = "momentum"', True, id="momentum"),
        pytest.param('optimiser = "adam"', True, id="adam"),
        pytest.param('optimiser = "adamw"\nweight_decay = 1.0', True, id="adamw"),
        pytest.param("prox = 8.0", False, id="prox"),
        pytest.param('schedule = "cosine"', False, id="cosine"),
        pytest.param('schedule = "step"\nperiod = 2\ndecay = 0.1', False, id="step"),
        pytest.param("warmup = 4", False, id="warmup"),
    ],
)
def test_published_descent_takes_effect_on_a_trainer(
    process: Process, descent: str, *, longer: bool
) -> None:
    plain, changed = _way(process, ""), _way(process, descent)

    assert changed > 1.05 * plain if longer else changed < 0.95 * plain


def test_published_accumulation_takes_fewer_steps(process: Process) -> None:
    batch = RECORDS // 4

    plain = _way(process, "", batch)
    changed = _way(process, "accumulation = 4", batch)

    assert changed < 0.7 * plain

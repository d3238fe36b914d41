"""Data and models against the memory that a trainer may have."""

from dataclasses import replace

import numpy as np
import pytest

from starling.agent import open_trainer
from starling.agent.trainer.dataset import records_max
from starling.agent.trainer.job_data import DATA_SHARE
from starling.agent.training.trainer_messages import (
    TrainerJobKind,
    TrainerReportKind,
)
from starling.protocol.privacy.mechanisms import RECORD_GAUSSIAN
from tests.contract.trainer.asked_trainer import (
    LIMITS,
    Process,
)
from tests.contract.trainer.test_engines import (
    FEATURES,
    PACKED,
    order,
)


def test_data_beyond_their_share_of_memory_count_as_none(process: Process) -> None:
    _add_many(process)
    limits = replace(LIMITS, memory_mb=256)
    job = replace(process.job(None, limits), kind=TrainerJobKind.COUNT)

    process.trainer.ask(job)
    found = process.report().found

    most = records_max(open_trainer(PACKED).manifest, (256 << 20) // DATA_SHARE)
    assert found is not None
    assert found.records == most
    assert found.complaints == (
        f"b.npz: beyond {most} records; raise training.memory_mb",
    )


def test_model_is_tried_before_its_process_reads_data(process: Process) -> None:
    counting = replace(process.job(None), kind=TrainerJobKind.COUNT)
    process.trainer.ask(counting)
    before = process.spoke()
    process.trainer.answered()

    process.trainer.ask(process.job(order(mechanism=RECORD_GAUSSIAN)))
    after = process.spoke()

    assert after.report.kind == TrainerReportKind.READY
    assert after.process != before.process


@pytest.mark.parametrize("memory_mb", [64, 80, 96, 112, 256])
def test_memory_for_the_data_is_there_or_the_model_is_refused(
    process: Process, memory_mb: int
) -> None:
    _add_many(process)
    limits = replace(LIMITS, memory_mb=memory_mb)
    job = replace(process.job(None, limits), kind=TrainerJobKind.COUNT)

    ready = process.answer(order(mechanism=RECORD_GAUSSIAN), limits)
    process.trainer.stop()
    process.trainer.ask(job)
    counted = process.report()

    if ready.kind == TrainerReportKind.READY:
        most = records_max(open_trainer(PACKED).manifest, (memory_mb << 20) // 4)
        assert counted.found is not None
        assert counted.found.records == most
    else:
        assert (ready.kind, counted.kind) == 2 * (TrainerReportKind.FAILED_MODEL,)
        assert memory_mb < 256


def _add_many(process: Process) -> None:
    count = (80 << 20) // FEATURES
    np.savez(
        process.folder / "data" / "b.npz",
        x=np.zeros((count, FEATURES), np.float32),
        y=np.zeros(count, np.int64),
    )

"""Strategies for tasks, their models and what is known of their losses."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from starling.protocol.learning import (
    end_policy,
    progress_guard,
    reward_policy,
    score_policy,
    selection_policy,
    task,
)
from tests.contract.wire.field_values import (
    counts,
    digests,
    names,
    task_numbers,
    tuples,
    upto,
)

models = st.builds(task.ModelDigests, *(5 * [digests]))
_training = st.builds(
    task.TrainingPolicy, upto(1), upto(1000, 1), upto(1 << 16, 1), upto(1 << 32)
)
_privacy = st.one_of(
    st.builds(
        task.PrivacyPolicy,
        upto(255).filter(lambda mechanism: mechanism != task.LABEL_RESPONSE),
        upto(1 << 40, 1),
        upto(1 << 40, 1),
        upto(1 << 40, 1),
        upto(task.E12 - 1, 1),
        upto(1 << 20, 1),
    ),
    st.builds(
        task.PrivacyPolicy,
        st.just(task.LABEL_RESPONSE),
        upto(1 << 40),
        st.just(0),
        upto(1 << 40, 1),
        st.just(0),
        upto(1 << 20, 1),
    ),
)
_aggregation = st.builds(
    task.AggregationPolicy,
    upto(max(task.Strategy)),
    upto(32, 1),
    upto(1 << 24),
    upto(task.Q16 - 1),
    upto(task.Q16 - 1),
    tuples(upto(task.Q15, 1), 64, 1),
    upto(1 << 20, 32),
    upto(1 << 20, 1),
    upto(1 << 60, 1),
    upto(1 << 20),
)
_tasks = st.builds(
    task.TaskSpec,
    names,
    digests,
    upto(1 << 28, 1),
    upto(task.DIMENSION_MAX, 1),
    upto(255),
    models,
    _training,
    _privacy,
    _aggregation,
    st.sets(upto(task.PLEDGE_MAX, 1), min_size=1, max_size=20).map(
        lambda sizes: tuple(sorted(sizes))
    ),
    counts,
    st.builds(
        progress_guard.GuardPolicy,
        upto(progress_guard.PATIENCE_MAX),
        upto(progress_guard.MARGIN_MAX),
    ),
    st.builds(
        score_policy.ScorePolicy,
        upto(max(score_policy.ScoreRule)),
        tuples(digests, score_policy.ROOTS_MAX),
        upto(score_policy.QUARANTINE_S_MAX),
    ),
    st.builds(
        selection_policy.SelectionPolicy,
        *(5 * [upto(selection_policy.WEIGHT_MAX)]),
    ),
    st.builds(
        reward_policy.RewardPolicy,
        st.just(reward_policy.RewardRule.EQUAL),
        upto(reward_policy.PARTICIPATIONS_MAX, 1),
        upto(reward_policy.MILLION),
        upto(reward_policy.USE_PRICE_MAX),
    ),
    st.builds(
        end_policy.EndPolicy, counts, counts, upto(progress_guard.LOSS_MAX), upto(1)
    ),
)
TASK_VALUES: dict[str, SearchStrategy[Any]] = {
    "MODEL_DIGESTS": models,
    "TASK": _tasks,
    "EVALUATION": st.builds(
        progress_guard.Evaluation, task_numbers, counts, upto(progress_guard.LOSS_MAX)
    ),
    "RESUME": st.builds(progress_guard.Resume, task_numbers, counts),
    "TASK_LOSS": st.builds(
        progress_guard.TaskLoss,
        counts,
        upto(progress_guard.LOSS_MAX),
        counts,
        upto(progress_guard.LOSS_MAX),
        counts,
    ),
}

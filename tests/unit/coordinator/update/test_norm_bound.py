import numpy as np
import pytest

from starling.coordinator.update.norm_bound import check_norm
from starling.protocol.errors import NormExceeded


@pytest.mark.parametrize(("vector", "norm"), [([3, 4], 5), ([0, 0], 1), ([-7], 7)])
def test_check_norm_up_to_the_bound_passes(vector: list[int], norm: int) -> None:
    check_norm(np.array(vector, np.int64), norm)


@pytest.mark.parametrize(
    ("vector", "norm"), [([3, 4], 4), ([1, 1], 1), ([2**38 - 1] * 9, 2**38)]
)
def test_check_norm_beyond_the_bound_is_refused(vector: list[int], norm: int) -> None:
    with pytest.raises(NormExceeded):
        check_norm(np.array(vector, np.int64), norm)

"""kill -9 of a process that makes features, at random moments: the work goes on, the file is the same, next to nothing is done twice."""

import numpy as np
from fine_slides import write_fine_slide
from killed_extraction import kill_at_random

from ml.slides.features import check_bag

SIDE, KILLS = 60, 3
N = SIDE * SIDE


def test_killed_again_and_again_the_bag_is_the_same(tmp_path):
    slide = write_fine_slide(tmp_path / "slide.tif", N)
    kill_at_random(slide, tmp_path / "whole.h5", N, kills=0, seed=0)
    killed = kill_at_random(slide, tmp_path / "killed.h5", N, kills=KILLS, seed=1)
    assert (tmp_path / "killed.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert check_bag(tmp_path / "killed.h5").n == N
    assert all(0 < done < N for done in killed.finished) and np.all(np.diff(killed.finished) >= 0)
    assert 0 <= killed.redone <= KILLS * killed.rows_per_block <= KILLS * 0.02 * N

import numpy as np

from vnp.models.similarity import row_similarity


def test_differences_of_rows():
    there = np.array([[3, 4], [1, 0], [0, 0], [0, 0], [2, 0]], np.float32)
    here = np.array([[3, 4], [0, 1], [0, 0], [1, 0], [0, 0]], np.float32)
    cosine, relative = row_similarity(here, there)
    np.testing.assert_allclose(cosine, [1, 0, 1, 0, 0])
    np.testing.assert_allclose(relative, [0, 2**0.5, 0, 1, 1])


def test_rows_with_nan_agree_with_nothing():
    rows = np.array([[np.nan, 1], [1, 1]], np.float32)
    cosine, _ = row_similarity(rows, rows)
    np.testing.assert_allclose(cosine, [0, 1])

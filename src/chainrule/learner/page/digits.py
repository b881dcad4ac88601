"""``sklearn.datasets`` in the page: scikit-learn's 1,797 digits, read as it reads them."""

import gzip
from pathlib import Path

import numpy as np


class Bunch(dict):
    """A dictionary whose entries are attributes too."""

    __getattr__ = dict.__getitem__


def load_digits(*, n_class=10, return_X_y=False):
    """The digits 0 to ``n_class - 1``: ``data`` (count, 64), ``target``, ``images``."""
    with gzip.open(Path(__file__).with_name("digits.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    data, target = table[:, :-1], table[:, -1].astype(int, copy=False)
    if n_class < 10:
        data, target = data[target < n_class], target[target < n_class]
    if return_X_y:
        return data, target
    images = data.reshape(-1, 8, 8)
    return Bunch(data=data, target=target, images=images, target_names=np.arange(10))

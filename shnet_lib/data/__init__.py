"""What is on disk -> expressions -> batches."""

from pathlib import Path

from shnet_lib.data import refer, referit
from shnet_lib.data.errors import DataError
from shnet_lib.data.expression import Expression

__all__ = ["DataError", "Expression", "read_expressions", "splits_of"]


def read_expressions(data: Path, dataset: str, split: str) -> list[Expression]:
    """The expressions of a split of `dataset` (a key of refer.DATASETS, "referit" or "own").

    DataError where the data set or split does not exist, or where a file is missing or damaged.
    """
    splits_of(dataset)
    if dataset == "referit":
        return referit.read_referit(data, split)
    return refer.read_refer(data, dataset, split)


def splits_of(dataset: str, data: Path | None = None) -> tuple[str, ...]:
    """The names of a data set's splits; DataError where there is no such data set.

    Own data have the splits that their refs in the folder `data` name; () where it is not given.
    """
    if dataset == "own":
        return refer.own_splits(data) if data else ()
    if dataset == "referit":
        return referit.REFERIT_SPLITS
    if dataset not in refer.DATASETS:
        known = ", ".join([*refer.DATASETS, "referit", "own"])
        raise DataError(f"There is no data set {dataset!r}. Ask for one of {known}.")
    return refer.DATASETS[dataset].splits

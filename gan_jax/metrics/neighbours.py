"""Nearest training images by L2 distance, which show whether a sample is new or a copy."""

from collections.abc import Iterable

import numpy as np


def nearest(
    queries: np.ndarray, bank: np.ndarray, k: int, block: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of `bank` closest to each query, closest first; ties go to the lower index.

    Distances are computed in float64, one block of the bank at a time: memory is
    O((Q + block)·D + Q·block), and the bank may stay uint8 or memory-mapped.

    Args:
      queries: [Q, ...], any number type; trailing axes are flattened to D.
      bank: [N, ...] of the same D.
      k: how many, 1 ≤ k ≤ N.
      block: rows of the bank per block.

    Returns:
      indices int64 [Q, k] and distances float32 [Q, k].

    Raises:
      ValueError: different D, or k out of range.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"k = {k} neighbours of a bank of {len(bank)}")
    queries = np.asarray(queries, np.float64).reshape(len(queries), -1)  # [Q, D]
    if np.prod(bank.shape[1:], dtype=int) != queries.shape[1]:
        raise ValueError(f"queries have {queries.shape[1]} numbers, the bank's {bank.shape[1:]}")
    return search(queries, (bank[at : at + block] for at in range(0, len(bank), block)), k)


def search(
    queries: np.ndarray, blocks: Iterable[np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """`nearest` in a bank that comes in blocks [n, ...], with at least k rows in all. One block is
    in memory at a time.
    """
    queries = np.asarray(queries, np.float64).reshape(len(queries), -1)  # [Q, D]
    # float32 would lose small distances in ‖q‖² + ‖b‖² - 2q·b
    norms = np.square(queries).sum(axis=1, keepdims=True)  # [Q, 1]
    best = np.full((len(queries), k), np.inf)
    indices = np.zeros((len(queries), k), np.int64)
    start = 0
    for block in blocks:
        rows = np.asarray(block, np.float64).reshape(len(block), -1)
        squares = norms + np.einsum("nd,nd->n", rows, rows) - 2 * queries @ rows.T  # [Q, rows]
        candidates = np.concatenate([best, squares], axis=1)
        places = np.broadcast_to(np.arange(start, start + len(rows)), squares.shape)
        places = np.concatenate([indices, places], axis=1)
        order = np.argsort(candidates, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(candidates, order, axis=1)
        indices = np.take_along_axis(places, order, axis=1)
        start += len(rows)
    return indices, np.sqrt(best.clip(0)).astype(np.float32)

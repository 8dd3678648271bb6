"""Independent pieces of one operation on torch's number of threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def each(n: int, work: Callable[[int], object]) -> None:
    """work(0) … work(n − 1), which must release the interpreter and write to places of their own."""
    threads = min(torch.get_num_threads(), n)
    if threads <= 1:
        for k in range(n):
            work(k)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(n)))

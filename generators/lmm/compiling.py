"""``torch.compile`` for what rollouts call with any number of rows; what it compiled stays in torch's own cache."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch.utils._pytree import tree_leaves


class Compiled:
    """A function of tensors, compiled at its first call for any number of rows.

    Where it cannot be compiled, as without a C++ compiler, it says so once and goes on as it is.

    Parameters
    ----------
    rows
        The first dimension of so many of the first arguments (tensors, or lists of them) is that of rows.
    """

    def __init__(self, function: Callable[..., Any], *, rows: int) -> None:
        self.function, self.rows = function, rows
        self.works = True
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        own = tree_leaves(args[: self.rows])
        if not self.works or any(len(t) < 2 for t in own):  # for a single row it would compile anew
            return self.function(*args)
        import torch._dynamo  # takes seconds

        if self._compiled is None:
            self._compiled = torch.compile(self.function)
        for tensor in own:
            torch._dynamo.mark_dynamic(tensor, 0)
        try:
            return self._compiled(*args)
        except torch._dynamo.exc.TorchDynamoException as error:
            self.works = False
            why = str(error).strip().splitlines()[0]
            warnings.warn(
                f"torch.compile does not work here ({why}); going on without it, which is slower and equal up to "
                "rounding. On a CPU it needs a C++ compiler and Python's headers.",
                RuntimeWarning,
                stacklevel=2,
            )
            return self.function(*args)

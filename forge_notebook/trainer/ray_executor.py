"""Ray as an executor: the models of a session over a cluster (the extra `ray`)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")


class RayExecutor(Executor):
    """Each job a Ray task: `CognateTrainer(config, executor=RayExecutor(num_cpus=2))`.

    `options` are those of `ray.remote`: `num_cpus`, `num_gpus`, `max_retries` (how often Ray runs a
    job again whose worker died; the job goes on from its checkpoint). Uses the Ray of this process,
    or starts a local one; call `ray.init(address=...)` before to use a cluster. All nodes must see
    the store's folder and import forge_notebook.

    Raises ImportError where Ray is not installed.
    """

    def __init__(self, **options: Any) -> None:
        import ray

        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False)
        self._remote = ray.remote(**{"num_cpus": 1, "max_retries": 3, **options})

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run the function in a Ray worker."""
        found: Future[T] = self._remote(fn).remote(*args, **kwargs).future()
        return found

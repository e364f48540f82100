"""The models of a session side by side: threads, processes, Ray; one session, one curve each."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
import torch

import forge_notebook as forge
from forge_notebook.trainer import job as side_job
from forge_notebook.trainer.cognate import CognateTrainer
from forge_notebook.trainer.config import ConfigError
from forge_notebook.trainer.data import ModularData
from forge_notebook.trainer.group import Group
from forge_notebook.trainer.job import Job, JobSession

from .conftest import QUICK

CONFIG: dict[str, Any] = {**QUICK, "seed": 42, "model_count": 3, "checkpoint_interval": 10}
LONG = {**CONFIG, "epochs": 1_000_000, "model_count": 2, "progress_update_interval": 50}


def wait_for(condition: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def events(trainer: CognateTrainer, store: Path, name: str) -> list[Any]:
    marks = forge.load(trainer.session.id, store=store).status["marks"]
    return [mark for mark in marks if mark["event"] == name]


def curves(trainer: CognateTrainer, store: Path) -> Any:
    frame = forge.load(trainer.session.id, store=store).to_pandas()
    names = ["model", "step", "loss", "val_loss", "rank_val", "weight_norm"]
    return frame[names].sort_values(["model", "step"], kind="stable").reset_index(drop=True)


def step_of(trainer: CognateTrainer, model: int) -> int:
    session: Any = trainer.session
    with session._viewing:  # the trainer's thread folds as well, for its callback
        return int(session._fold().models[model].step)


def same_weights(one: CognateTrainer, two: CognateTrainer) -> bool:
    pairs = zip(one.models, two.models, strict=True)
    return all(
        torch.equal(a, b)
        for left, right in pairs
        for a, b in zip(left.parameters(), right.parameters(), strict=True)
    )


def spawned() -> Executor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def test_side_by_side_gives_what_one_after_the_other_gives(tmp_path: Path) -> None:
    one = CognateTrainer(CONFIG, store=tmp_path).fit()
    with ThreadPoolExecutor(2) as executor:
        two = CognateTrainer(CONFIG, store=tmp_path, executor=executor).fit()
    assert two.status == "completed"
    assert len(two.models) == 3
    assert same_weights(one, two)
    assert curves(one, tmp_path).equals(curves(two, tmp_path))
    metrics = two.metrics
    assert metrics is not None
    assert metrics["overallProgress"] == 100
    assert len(events(two, tmp_path, "model_completed")) == 3


def test_commands_reach_all_jobs_and_are_answered_once(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    with ThreadPoolExecutor(2) as executor:
        trainer = CognateTrainer({**LONG, "model_count": 3}, store=tmp_path, executor=executor)
        trainer.set_progress_callback(seen.append)
        trainer.start()
        wait_for(lambda: step_of(trainer, 0) > 100 and step_of(trainer, 1) > 100)
        trainer.session.send_command("set", learning_rate=0.001)
        trainer.pause()
        wait_for(lambda: trainer.status == "paused")
        time.sleep(0.2)
        at = [step_of(trainer, 0), step_of(trainer, 1)]
        time.sleep(0.3)
        assert [step_of(trainer, 0), step_of(trainer, 1)] == at
        trainer.resume()
        wait_for(lambda: min(step_of(trainer, 0) - at[0], step_of(trainer, 1) - at[1]) > 100)
        trainer.stop()
        assert trainer.wait(30) == "stopped"
    frame = forge.load(trainer.session.id, store=tmp_path).to_pandas()
    last = frame[frame.lr.notna()].groupby("model").lr.last().tolist()
    assert last == pytest.approx([0.001, 0.001])  # the third model never began
    assert len(events(trainer, tmp_path, "paused")) == len(events(trainer, tmp_path, "resumed"))
    assert len(events(trainer, tmp_path, "paused")) == 1
    assert seen


class BadForFirst(ModularData):
    def batch(self, seed: int, position: int, batch_size: int | None) -> Any:
        if seed == CONFIG["seed"] and position == 5:
            raise ArithmeticError("a batch nobody can read")
        return super().batch(seed, position, batch_size)


def test_model_that_fails_fails_the_session_after_the_others(tmp_path: Path) -> None:
    data = BadForFirst(59, "add", 0.4, 42)
    config = {**CONFIG, "enable_recovery": False}
    with ThreadPoolExecutor(1) as executor:
        trainer = CognateTrainer(config, store=tmp_path, executor=executor, data=data)
        with pytest.raises(ArithmeticError, match="nobody can read"):
            trainer.fit()
    assert trainer.status == "failed"
    assert [mark["model"] for mark in events(trainer, tmp_path, "model_completed")] == [1, 2]
    assert "model_failed" in [m["data"]["kind"] for m in events(trainer, tmp_path, "alert")]


def test_stopped_session_goes_on_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = CognateTrainer(CONFIG, store=tmp_path).fit()
    asked, batch = threading.Event(), ModularData.batch

    def second_when_asked(self: ModularData, seed: int, position: int, size: int | None) -> Any:
        assert position != 1 or asked.wait(60)
        return batch(self, seed, position, size)

    def stop(metrics: dict[str, Any]) -> None:
        first.stop()
        asked.set()

    # A fast machine would take all forty steps before anybody has looked at the first.
    monkeypatch.setattr(ModularData, "batch", second_when_asked)
    monkeypatch.setattr(side_job, "COMMANDS_S", 0.0)
    with ThreadPoolExecutor(2) as executor:
        first = CognateTrainer(CONFIG, store=tmp_path, executor=executor)
        first.set_progress_callback(stop)
        first.fit()
        assert first.status == "stopped"
        again = CognateTrainer(resume=first.session.id, store=tmp_path, executor=executor).fit()
    assert again.status == "completed"
    assert same_weights(whole, again)


def test_worker_that_does_not_see_the_store_says_so(tmp_path: Path) -> None:
    job = Job(CONFIG, 0, str(tmp_path / "elsewhere"), 0, again=False)
    with pytest.raises(ConfigError, match="all workers need the same store"):
        JobSession(job)


def test_group_and_executor_exclude_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(ConfigError, match="group and executor"):
        CognateTrainer(CONFIG, store=tmp_path, executor=executor, group=Group())


def _kill_when_training(trainer: CognateTrainer, pid: Callable[[], int]) -> None:
    trainer.start()
    wait_for(lambda: min(step_of(trainer, 0), step_of(trainer, 1)) > 100)
    os.kill(pid(), signal.SIGKILL)


@pytest.mark.timeout(200)
@pytest.mark.slow  # each worker loads torch
def test_killed_process_costs_a_new_pool_and_goes_on_from_its_checkpoints(tmp_path: Path) -> None:
    made: list[ProcessPoolExecutor] = []

    def make() -> Executor:
        made.append(spawned())  # type: ignore[arg-type]
        return made[-1]

    trainer = CognateTrainer(LONG, store=tmp_path, executor=make)
    _kill_when_training(trainer, lambda: next(iter(made[0]._processes)))
    wait_for(lambda: len(events(trainer, tmp_path, "recovery")) == 2)
    steps = [mark["step"] for mark in events(trainer, tmp_path, "checkpoint_saved")]
    trainer.stop()
    assert trainer.wait(60) == "stopped"
    assert steps.count(0) == 2  # nothing began again from the start
    assert len(made) == 2


@pytest.mark.timeout(200)
@pytest.mark.slow
def test_pool_that_is_given_and_breaks_fails_with_a_way_on(tmp_path: Path) -> None:
    pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    with pool:
        trainer = CognateTrainer(LONG, store=tmp_path, executor=pool)
        _kill_when_training(trainer, lambda: next(iter(pool._processes)))
        with pytest.raises(BrokenProcessPool):
            trainer.wait(60)
    assert trainer.status == "failed"


@pytest.mark.timeout(200)
@pytest.mark.slow
def test_ray_runs_models_side_by_side_and_replaces_a_killed_worker(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from forge_notebook.trainer.ray_executor import RayExecutor

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        trainer = CognateTrainer(LONG, store=tmp_path, executor=RayExecutor())
        _kill_when_training(trainer, _ray_worker)
        wait_for(lambda: events(trainer, tmp_path, "recovery"))
        at = [step_of(trainer, 0), step_of(trainer, 1)]
        wait_for(lambda: step_of(trainer, 0) > at[0] + 50 and step_of(trainer, 1) > at[1] + 50)
        trainer.stop()
        assert trainer.wait(60) == "stopped"
    finally:
        ray.shutdown()
    steps = [mark["step"] for mark in events(trainer, tmp_path, "checkpoint_saved")]
    assert steps.count(0) == 2


def _ray_worker() -> int:
    psutil = pytest.importorskip("psutil")
    busy = [
        process.pid
        for process in psutil.Process().children(recursive=True)
        if "run_job" in process.name() or "ray::run_job" in " ".join(process.cmdline())
    ]
    assert busy
    return int(busy[0])

"""The callbacks, each by a training of the real library; skipped where it is not installed.

Each runs in a process of its own: the libraries warn, spawn and patch as they like.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pandas as pd
import pytest

import forge_notebook as forge
from forge_notebook.integrations.history import History

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]


def needs(*libraries: str) -> pytest.MarkDecorator:
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def train(code: str, tmp_path: Path, **environment: str) -> list[History]:
    """Run a script; returns its sessions, newest first."""
    script = tmp_path / "script.py"
    script.write_text(dedent(code))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [forge.load(row["sessionId"]) for row in forge.sessions()]


def curve(history: History, name: str) -> pd.Series:
    return history.to_pandas().set_index("step")[name].dropna()


HUGGING_FACE = """
    import torch, transformers
    from transformers import Trainer, TrainingArguments, TrainerCallback
    from forge_notebook.integrations.huggingface import ForgeCallback

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.line = torch.nn.Linear(2, 1)
        def forward(self, x=None, labels=None):
            out = self.line(x)
            return {"loss": (out - labels).square().mean(), "logits": out}

    data = [{"x": torch.tensor([i / 8, 1.0]), "labels": torch.tensor([i / 4])} for i in range(16)]
    arguments = TrainingArguments("out", max_steps=12, per_device_train_batch_size=4,
        logging_steps=1, eval_strategy="steps", eval_steps=4, save_steps=6, report_to=[],
        use_cpu=True, learning_rate=0.1, disable_tqdm=True)
"""


@needs("transformers", "accelerate")
def test_hugging_face_trainer_is_recorded(tmp_path: Path) -> None:
    (run,) = train(
        HUGGING_FACE
        + """
    callback = ForgeCallback("hf")
    Trainer(Net(), arguments, train_dataset=data, eval_dataset=data, callbacks=[callback]).train()
    """,
        tmp_path,
    )
    assert run.status["status"] == "completed"
    assert run.metrics is not None
    assert (run.metrics["currentStep"], run.metrics["modelParams"]) == (12, 3)
    assert curve(run, "loss").index.tolist() == list(range(1, 13))
    assert curve(run, "val_loss").index.tolist() == [4, 8, 12]
    assert curve(run, "lr").iloc[0] == pytest.approx(0.1)
    assert [e["step"] for e in run.events if e["event"] == "checkpoint_saved"] == [6, 12]


@needs("transformers", "accelerate")
def test_hugging_face_trainer_stops_and_saves_for_a_viewer(tmp_path: Path) -> None:
    (run,) = train(
        HUGGING_FACE
        + """
    import time
    callback = ForgeCallback("hf")

    class Viewer(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 2:
                callback.session.send_command("checkpoint")
                callback.session.send_command("stop")
                while len(callback.session._requests._inbox._waiting) < 2:
                    time.sleep(0.01)
    Trainer(Net(), arguments, train_dataset=data, eval_dataset=data,
            callbacks=[callback, Viewer()]).train()
    """,
        tmp_path,
    )
    assert run.status["status"] == "stopped"
    assert curve(run, "loss").index.max() == 3
    assert [e["step"] for e in run.events if e["event"] == "checkpoint_saved"] == [3]


@needs("transformers", "accelerate")
def test_hugging_face_with_two_processes_stops_both_and_records_once(tmp_path: Path) -> None:
    (run,) = train(
        """
    import os, sys
    if "RANK" not in os.environ:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        os.execv(sys.executable, [*launch, "--nproc_per_node=2", __file__])
    """
        + HUGGING_FACE
        + """
    import time
    callback = ForgeCallback("hf")
    arguments.max_steps, arguments.save_strategy = 500, "no"

    class Viewer(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 2 and state.is_world_process_zero:
                callback.session.send_command("checkpoint")
                callback.session.send_command("stop")
                while len(callback.session._requests._inbox._waiting) < 2:
                    time.sleep(0.01)
    Trainer(Net(), arguments, train_dataset=data, eval_dataset=data,
            callbacks=[callback, Viewer()]).train()
    """,
        tmp_path,
    )
    assert run.status["status"] == "stopped"
    assert curve(run, "loss").index.tolist() == list(range(1, 11))
    assert [e["step"] for e in run.events if e["event"] == "checkpoint_saved"] == [10]


@needs("transformers", "accelerate")
def test_in_a_notebook_the_card_replaces_the_table_of_that_trainer_only(tmp_path: Path) -> None:
    train(
        HUGGING_FACE
        + """
    import forge_notebook.integrations.huggingface as ours
    from forge_notebook.integrations.show import in_notebook
    shown = []
    ours.in_notebook, ours.show = lambda: True, shown.append
    arguments.disable_tqdm = False
    def progress(trainer):
        names = [type(c).__name__ for c in trainer.callback_handler.callbacks]
        return [name for name in names if "rogress" in name]
    sets = dict(train_dataset=data, eval_dataset=data)
    one = Trainer(Net(), arguments, callbacks=[ForgeCallback()], **sets)
    two = Trainer(Net(), arguments, **sets)
    assert progress(one) == [], progress(one)
    assert progress(two) == ["ProgressCallback"], progress(two)
    one.train()
    assert len(shown) == 1
    """,
        tmp_path,
    )


LIGHTNING = """
    import torch, lightning
    from lightning.pytorch import LightningModule, Trainer, Callback
    from forge_notebook.integrations.lightning import ForgeLogger
    from forge_notebook.integrations.lightning_control import ForgeControl

    class Net(LightningModule):
        def __init__(self):
            super().__init__()
            self.save_hyperparameters({"width": 2})
            self.line = torch.nn.Linear(2, 1)
        def training_step(self, batch, index):
            loss = self.line(batch).square().mean()
            self.log("loss", loss)
            return loss
        def validation_step(self, batch, index):
            self.log("val_loss", self.line(batch).square().mean(), sync_dist=True)
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.utils.data.DataLoader(torch.ones(16, 2), batch_size=4)
    quiet = dict(accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
                 log_every_n_steps=1, enable_checkpointing=False)
    logger = ForgeLogger("lit")
"""


@needs("lightning")
def test_lightning_is_recorded(tmp_path: Path) -> None:
    (run,) = train(
        LIGHTNING
        + """
    Trainer(max_epochs=3, logger=logger, callbacks=[ForgeControl()], **quiet).fit(Net(), data, data)
    """,
        tmp_path,
    )
    status = run.status
    assert (status["status"], status["config"]) == ("completed", {"width": 2})
    assert len(curve(run, "loss")) == 12
    assert len(curve(run, "val_loss")) == 3
    assert status["models"][0]["totalSteps"] == 12


@needs("lightning")
def test_lightning_with_ddp_stops_on_all_ranks_and_records_once(tmp_path: Path) -> None:
    (run,) = train(
        LIGHTNING
        + """
    class Viewer(Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.is_global_zero and trainer.global_step == 4:
                import time
                logger.experiment.send_command("pause")
                logger.experiment.send_command("resume")
                logger.experiment.send_command("stop")
                while len(logger.experiment._requests._inbox._waiting) < 3:
                    time.sleep(0.01)
    if __name__ == "__main__":
        Trainer(max_epochs=200, logger=logger, strategy="ddp", devices=2,
                callbacks=[ForgeControl(), Viewer()], **quiet).fit(Net(), data)
    """,
        tmp_path,
    )
    assert run.status["status"] == "stopped"
    assert len(curve(run, "loss")) <= 20
    assert curve(run, "loss").index.is_unique


@needs("keras")
def test_keras_on_torch_is_recorded_and_stopped(tmp_path: Path) -> None:
    stopped, run = train(
        """
    import time
    import numpy as np
    import keras
    from forge_notebook.integrations.keras import ForgeCallback
    def fit(callback, *more):
        model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)], name="line")
        model.compile("sgd", "mse", metrics=["mae"])
        x = np.ones((16, 2), "float32")
        model.fit(x, x[:, :1], batch_size=4, epochs=3, verbose=0, validation_data=(x, x[:, :1]),
                  callbacks=[callback, *more])
    fit(ForgeCallback("keras"))
    callback = ForgeCallback("stopped")
    class Viewer(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if callback._step == 2:
                callback.session.send_command("stop")
                while not callback.session._requests._inbox._waiting:
                    time.sleep(0.01)
    time.sleep(0.01)
    fit(callback, Viewer())
    """,
        tmp_path,
        KERAS_BACKEND="torch",
    )
    assert (run.status["status"], run.status["models"][0]["totalSteps"]) == ("completed", 12)
    assert curve(run, "loss").index.tolist() == list(range(1, 13))
    assert curve(run, "val_mae").index.tolist() == [4, 8, 12]
    assert run.metrics is not None
    assert run.metrics["modelParams"] == 3
    assert stopped.status["status"] == "stopped"
    assert curve(stopped, "loss").index.max() <= 4


@needs("accelerate")
def test_accelerate_is_recorded(tmp_path: Path) -> None:
    (run,) = train(
        """
    import torch
    from accelerate import Accelerator
    from forge_notebook.integrations.accelerate import ForgeTracker
    accelerator = Accelerator(log_with=ForgeTracker("acc", total_steps=3), cpu=True)
    accelerator.init_trackers("project", config={"lr": 0.1})
    net = torch.nn.Linear(2, 1)
    net, optimizer = accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=0.1))
    for step in (1, 2, 3):
        loss = net(torch.ones(4, 2)).square().mean()
        accelerator.backward(loss)
        optimizer.step()
        accelerator.log({"loss": loss.detach(), "note": "no number"}, step=step)
    accelerator.end_training()
    """,
        tmp_path,
    )
    assert (run.status["status"], run.status["config"]) == ("completed", {"lr": 0.1})
    assert curve(run, "loss").index.tolist() == [1, 2, 3]
    assert run.metric_names == ["loss"]


@needs("ray")
def test_ray_tune_gives_each_trial_its_session(tmp_path: Path) -> None:
    runs = train(
        """
    import os
    import ray
    from ray import tune
    from forge_notebook.integrations.ray import ForgeTuneCallback
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    def objective(config):
        for step in (1, 2):
            tune.report({"loss": config["lr"] / step})
        if config["lr"] > 1:
            raise RuntimeError("diverged")
    tuner = tune.Tuner(objective, param_space={"lr": tune.grid_search([0.5, 2.0])},
        run_config=tune.RunConfig(callbacks=[ForgeTuneCallback()], storage_path=os.getcwd()))
    tuner.fit()
    ray.shutdown()
    """,
        tmp_path,
        RAY_AIR_NEW_OUTPUT="0",
        RAY_raylet_start_wait_time_s="120",
    )
    found = {run.status["config"]["lr"]: run for run in runs}
    assert found[0.5].status["status"] == "completed"
    assert found[2.0].status["status"] == "failed"
    assert curve(found[2.0], "loss").to_dict() == {1: 2.0, 2: 1.0}


@needs("ray")
def test_ray_train_records_what_rank_0_reports(tmp_path: Path) -> None:
    (run,) = train(
        """
    import os
    import ray
    from ray import train
    from ray.train.torch import TorchTrainer
    from forge_notebook.integrations.ray_train import ForgeTrainCallback
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    def loop():
        for step in (1, 2, 3):
            train.report({"loss": 1.0 / step, "rank": train.get_context().get_world_rank()})
    with ForgeTrainCallback("train", total_steps=3) as callback:
        TorchTrainer(loop, scaling_config=train.ScalingConfig(num_workers=1),
            run_config=train.RunConfig(callbacks=[callback], storage_path=os.getcwd())).fit()
    ray.shutdown()
    """,
        tmp_path,
        RAY_TRAIN_V2_ENABLED="1",
        RAY_raylet_start_wait_time_s="120",
    )
    assert (run.status["status"], run.name) == ("completed", "train")
    assert curve(run, "loss").to_dict() == {1: 1.0, 2: 0.5, 3: 1 / 3}


@needs("wandb")
def test_a_real_wandb_file_is_imported_whole(tmp_path: Path) -> None:
    train(
        """
    import math, wandb
    run = wandb.init(project="p", name="real", config={"lr": 0.1}, dir=".")
    for i in range(2000):  # more than one block of 32 KiB
        run.log({"loss": math.nan if i == 3 else i / 7, "n": {"x": i}, "note": "text"})
    run.finish()
    """,
        tmp_path,
        WANDB_MODE="offline",
    )
    (run,) = forge.import_runs(tmp_path / "wandb")
    assert (run.name, run.status["status"]) == ("real", "completed")
    assert run.status["config"] == {"lr": 0.1, "leftOut": ["note"]}
    frame = run.to_pandas()
    assert frame.step.tolist() == list(range(2000))
    assert frame.loss.drop(3).tolist() == [i / 7 for i in range(2000) if i != 3]
    assert frame["n.x"].tolist() == list(range(2000))


@needs("trackio")
def test_a_real_trackio_file_is_imported_whole(tmp_path: Path) -> None:
    train(
        """
    import math, trackio
    trackio.init(project="p", name="real", config={"lr": 0.1}, embed=False, auto_log_gpu=False)
    for i in range(20):
        trackio.log({"loss": -math.inf if i == 3 else i / 7})
    trackio.alert("spike", text="loss")
    trackio.finish()
    """,
        tmp_path,
        TRACKIO_DIR=str(tmp_path / "db"),
    )
    (run,) = forge.import_runs(tmp_path / "db" / "p.db")
    assert run.to_pandas().loss.tolist() == [float("-inf") if i == 3 else i / 7 for i in range(20)]
    assert run.status["config"]["lr"] == 0.1
    assert [e["data"]["message"] for e in run.events if e["event"] == "alert"] == ["spike: loss"]


MIRRORED = """
    import math, time
    import forge_notebook as forge
    from forge_notebook.integrations.mirror import mirror
    with forge.session("mirrored", config={"lr": 0.1}) as session:
        copy = mirror(session, TO, PATH)
        for step in range(20):
            session.log(step, loss=math.nan if step == 3 else step / 7)
    assert copy.wait(60) and copy.error is None, copy.error
"""


@needs("wandb")
def test_the_wandb_mirror_writes_what_import_reads(tmp_path: Path) -> None:
    train(MIRRORED.replace("TO", '"wandb"').replace("PATH", repr(str(tmp_path))), tmp_path)
    (back,) = forge.import_runs(tmp_path / "wandb")
    assert back.to_pandas().loss.drop(3).tolist() == [i / 7 for i in range(20) if i != 3]
    assert back.status["config"] == {"lr": 0.1}


@needs("mlflow")
def test_the_mlflow_mirror_keeps_steps(tmp_path: Path) -> None:
    check = """
    import mlflow
    client = mlflow.MlflowClient(PATH)
    run, = client.search_runs([client.get_experiment_by_name("forge_notebook").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params == {"lr": "0.1"}, run
    found = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")]
    assert [f for f in found if f[0] != 3] == [(i, i / 7) for i in range(20) if i != 3], found
    """
    uri = repr(f"sqlite:///{tmp_path / 'ml.db'}")
    train((MIRRORED + check).replace("TO", '"mlflow"').replace("PATH", uri), tmp_path)

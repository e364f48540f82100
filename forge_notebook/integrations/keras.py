"""Keras 3: a callback, for any backend."""

from __future__ import annotations

from typing import Any

from keras.callbacks import Callback

from forge_notebook.integrations.control import Control, numbers
from forge_notebook.integrations.show import show
from forge_notebook.recording import Session


class ForgeCallback(Callback):
    """``model.fit(..., callbacks=[ForgeCallback("my run")])``.

    Records the metrics of each ``every``-th batch (Keras' running mean over the epoch) and, at
    the end of each epoch, those of the epoch with ``val_*``. Pause and stop come from any viewer.
    An exception in ``fit`` reaches no callback: give ``session=`` of a ``with forge.session(...)``
    around it to have it recorded.
    """

    def __init__(
        self, name: str | None = None, *, session: Session | None = None, every: int = 1,
        display: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        if every < 1:
            raise ValueError(f"every={every}: give a positive number of batches")
        self.session = session
        self._name = name
        self._owns = session is None
        self._every = every
        self._display = display
        self._step = 0
        self._control: Control | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start the session."""
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        total = steps * epochs if steps and epochs else None
        name = self._name or self.model.name
        if self.session is None or (self._owns and self._control is not None):
            self.session = Session(name, config=self._config(), total_steps=total)
            self._step = 0
        self._control = Control(self.session)
        if self._display:
            show(self.session)
        params = self.model.count_params() if self.model.built else None
        self.session.model_started(0, name=self.model.name, params=params, total_steps=total)

    def _config(self) -> dict[str, Any]:
        optimizer = getattr(self.model, "optimizer", None)
        return {} if optimizer is None else {"optimizer": optimizer.get_config(), **self.params}

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Record, and carry out what viewers asked for."""
        self._step += 1
        if self.session is None or self._control is None:
            return
        if (self._step - 1) % self._every == 0 and (row := numbers(logs)):
            self.session.log(self._step, **row)
        if "stop" in self._control.poll():
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the epoch's metrics at its last step; ``loss`` and the like as ``epoch_loss``."""
        row = numbers(logs)
        epochs = {k if k.startswith("val_") else f"epoch_{k}": v for k, v in row.items()}
        if self.session is not None:
            rate = getattr(getattr(self.model, "optimizer", None), "learning_rate", None)
            if rate is not None:
                epochs["lr"] = float(rate)
            self.session.log(self._step, epoch=epoch + 1, **epochs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """End the session that is ours."""
        if self.session is not None and self._control is not None and self._owns:
            self.session.finish(self._control.end_status())

"""Hugging Face ``Trainer``: a session for each training, and our card instead of its table."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from forge_notebook.integrations.control import Control, numbers
from forge_notebook.integrations.huggingface_table import hide_next_table, restore_table
from forge_notebook.integrations.show import in_notebook, show
from forge_notebook.recording import Session

NAMES = {"learning_rate": "lr", "eval_loss": "val_loss", "train_loss": "mean_loss"}
SYNC_STEPS = 10  # with several processes: all agree on a stop this often, one small broadcast


class ForgeCallback(TrainerCallback):
    """``Trainer(..., callbacks=[ForgeCallback()])``.

    Records whatever the Trainer logs, ``learning_rate`` as ``lr`` and ``eval_loss`` as
    ``val_loss``; checkpoints as events; pause, stop and checkpoint from any viewer. Only the
    first process of a distributed run records. An exception in the training reaches no callback:
    put ``with forge.session(...) as s`` around ``train()`` and give ``session=s`` to have it
    recorded. ``display=False`` keeps the Trainer's own table in a notebook.
    """

    def __init__(
        self, name: str | None = None, *, session: Session | None = None, display: bool = True
    ) -> None:
        self.session = session
        self.display = display
        self._name = name
        self._owns = session is None
        self._control: Control | None = None
        self._waiting: set[str] = set()
        if display and in_notebook():
            hide_next_table()

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The Trainer stands: the next one is again as Hugging Face made it."""
        restore_table()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the session, on the first process."""
        if not state.is_world_process_zero:
            return
        model = kwargs.get("model")
        if self.session is None or (self._owns and self._control is not None):
            name = self._name or args.run_name or type(model).__name__
            config = args.to_sanitized_dict()
            self.session = Session(name, config=config, total_steps=state.max_steps)
        self._control = Control(self.session)
        if self.display:
            show(self.session)
        params = None if model is None else sum(p.numel() for p in model.parameters())
        self.session.model_started(
            0, name=type(model).__name__, params=params, total_steps=state.max_steps
        )

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Record what the Trainer logs, at its step."""
        if self.session is not None and (row := numbers(logs, NAMES)):
            self.session.log(state.global_step, **row)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Carry out what viewers asked for."""
        asked = self._control.poll(can_save=True) if self._control is not None else set()
        if args.world_size > 1:
            asked = self._agreed(asked, state.global_step)
        control.should_training_stop |= "stop" in asked
        control.should_save |= "checkpoint" in asked

    def _agreed(self, asked: set[str], step: int) -> set[str]:
        from accelerate.utils import broadcast_object_list

        self._waiting |= asked
        if step % SYNC_STEPS:
            return set()
        shared = broadcast_object_list([sorted(self._waiting)])
        self._waiting = set()
        return set(shared[0])

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A checkpoint is a mark on the curve."""
        if self.session is not None:
            path = f"{args.output_dir}/checkpoint-{state.global_step}"
            self.session.event("checkpoint_saved", step=state.global_step, path=path)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the session that is ours."""
        if self.session is not None and self._control is not None and self._owns:
            self.session.finish(self._control.end_status())

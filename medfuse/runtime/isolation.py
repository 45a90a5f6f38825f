"""Keep a training's random numbers and threads apart from those of the program around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from medfuse.runtime.thread_count import threads_here


class Isolation:
    """Random states and a number of threads that hold only inside ``with isolation.entered():``.

    Parameters
    ----------
    seed
        Of the random numbers; each block goes on where the last one ended.
    threads
        Of torch on the CPU; 0 leaves their number as it is.
    device
        Where random numbers are drawn, beside the CPU.
    """

    def __init__(self, seed: int, threads: int, device: torch.device) -> None:
        self.threads = threads
        self.devices = [device] if device.type == "cuda" else []
        places = ["cpu", *map(str, self.devices)]
        self._states = {place: torch.Generator(place).manual_seed(seed).get_state() for place in places}

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Draw the training's random numbers, on its threads; both are the caller's again at the end."""
        limited = threads_here(self.threads) if self.threads else nullcontext()
        with torch.random.fork_rng(self.devices), limited:
            try:
                torch.set_rng_state(self._states["cpu"])
                for device in self.devices:
                    torch.cuda.set_rng_state(self._states[str(device)], device)
                yield
            finally:
                self._states = self.states()

    def states(self) -> dict[str, Tensor]:
        """Random states as they are inside the block, to go on from with `restore`."""
        return {"cpu": torch.get_rng_state()} | {
            str(device): torch.cuda.get_rng_state(device) for device in self.devices
        }

    def restore(self, states: Mapping[str, Tensor]) -> None:
        """Let the next block draw as the one did that the states are of."""
        self._states = {place: states[place].cpu() for place in self._states}

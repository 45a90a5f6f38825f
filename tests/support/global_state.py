"""All of a process that a library has no business changing."""

from __future__ import annotations

import contextlib
import gc
import locale
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import warnings

import numpy as np
import torch


def in_new_thread(ask):
    """What a thread that starts now finds."""
    found = []
    thread = threading.Thread(target=lambda: found.append(ask()))
    thread.start()
    thread.join()
    return found[0]


def global_state():
    """A snapshot, to be compared."""
    import matplotlib as mpl
    import pydicom.config
    import SimpleITK as sitk

    mask = os.umask(0o22)
    os.umask(mask)
    loggers = [
        logging.getLogger(name) for name in (None, "medfuse", "pydicom", "pynetdicom", "monai", "nibabel", "numba")
    ]
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads(), in_new_thread(torch.get_num_threads)),
        "torch random": torch.get_rng_state().tolist(),
        "numpy random": str(np.random.get_state()),
        "random": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "device": (str(torch.get_default_device()), in_new_thread(lambda: str(torch.get_default_device()))),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "numpy errors": (np.geterr(), in_new_thread(np.geterr)),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "itk": (
            sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(),
            sitk.ProcessObject.GetGlobalWarningDisplay(),
            sitk.ProcessObject.GetGlobalDefaultCoordinateTolerance(),
            sitk.ProcessObject.GetGlobalDefaultDirectionTolerance(),
        ),
        "pydicom": {
            name: repr(value)
            for name, value in vars(pydicom.config).items()
            if isinstance(value, bool | int | str | None) and not name.startswith("__")
        },
        "pydicom validation": (
            pydicom.config.settings.reading_validation_mode,
            pydicom.config.settings.writing_validation_mode,
        ),
        "logging": [(each.level, list(each.handlers), list(each.filters), each.disabled) for each in loggers],
        "locale": locale.setlocale(locale.LC_ALL),
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        "folder": os.getcwd(),  # noqa: PTH109
        "umask": mask,
        "matplotlib": (dict(mpl.rcParams), mpl.get_backend()),
        "processes": multiprocessing.get_start_method(allow_none=True),
        "hooks": (sys.excepthook, threading.excepthook, sys.stdout, sys.stderr, sys.gettrace()),
        "garbage": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "running": sorted(each.name for each in threading.enumerate()),
    }


@contextlib.contextmanager
def unchanged():
    """Fail where a block leaves anything global different."""
    before = global_state()
    yield
    after = global_state()
    assert {name for name in before if before[name] != after[name]} == set()

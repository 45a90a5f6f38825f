"""End a process after one of its changes to the disk, chosen by number."""

import itertools
import os
import signal

CHANGES = ("rename", "replace", "unlink", "rmdir", "mkdir")
"""Calls of the system by which an exchange is done."""


def dying(work, number, how, calls=CHANGES):
    """Do work in a copy of this process that is ended by a signal after its change of that number; whether it was."""
    child = os.fork()
    if child == 0:
        count = itertools.count(1)

        def ending(call):
            def called(*arguments, **options):
                result = call(*arguments, **options)
                if next(count) == number:
                    os.kill(os.getpid(), how)
                return result

            return called

        for name in calls:
            setattr(os, name, ending(getattr(os, name)))
        code = 1
        try:
            work()
            code = 0
        except (KeyboardInterrupt, SystemExit):
            signal.signal(how, signal.SIG_DFL)
            os.kill(os.getpid(), how)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == how
        return True
    assert os.WEXITSTATUS(status) == 0
    return False

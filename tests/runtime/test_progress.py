from medfuse.runtime.progress import part_of, step_of


def test_a_step_and_its_parts_are_told_by_one_protocol():
    told = []

    def progress(step, share, note=""):
        told.append((step, share, note))

    step_of(progress, "load")(0.25)
    part_of(progress, 0.5, 1.0, "partner")("load", 0.5)
    part_of(progress, 0.5, 1.0, "partner")("load", 1.0, "its own")
    assert told == [("load", 0.25, ""), ("load", 0.75, "partner"), ("load", 1.0, "its own")]


def test_nobody_need_ask():
    assert step_of(None, "load")(1.0) is None
    assert part_of(None, 0.0, 0.5)("load", 1.0) is None

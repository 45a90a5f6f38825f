import torch

from medfuse.runtime.parallel import one_thread, parallel_map


def test_jobs_have_one_thread_each_and_results_keep_their_order():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            found = parallel_map(lambda item: (item, torch.get_num_threads()), range(20))
        assert found == [(item, 1) for item in range(20)]
        assert torch.get_num_threads() == 3
        with one_thread(), one_thread():
            assert parallel_map(str, [4, 5]) == ["4", "5"]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_sums_do_not_depend_on_the_number_of_threads():
    values = torch.linspace(0, 1, 300_001)
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        with one_thread():
            found.append(torch.stack(parallel_map(lambda power: (values**power).sum(), [1, 2, 3])))
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])

"""Habits of libraries of fused expert layers (design §8)."""

from ridgepoint.kernels.expert_libraries import EXPERT_LIBRARIES, ExpertLibrary, expert_library
from ridgepoint.machines.catalog import find_machine


def test_a_format_has_its_own_count_and_else_its_library_has_one():
    assert expert_library("cutlass-fp8_block").launches != expert_library("cutlass-bf16").launches
    assert expert_library("cutlass-bf16") == EXPERT_LIBRARIES["cutlass"]
    assert expert_library("triton_mxfp4-w4a16") == EXPERT_LIBRARIES["triton_mxfp4"]  # not Triton's own
    assert expert_library("") == expert_library("nobody's") == ExpertLibrary()


def test_a_format_changes_counts_alone():
    """Places are the code's, whatever the format: an entry that forgot them would leave out other ranks' rows."""
    for name, habits in EXPERT_LIBRARIES.items():
        assert habits.keeps == EXPERT_LIBRARIES[name.partition("-")[0]].keeps


def test_entries_are_named_as_the_tables_of_machines_name_them():
    """A count under another name would never be found."""
    tables = [
        find_machine(name).coefficients.gemm.grouped for name in ("h100-sxm", "b200-sxm", "a100-sxm-80gb", "l40s")
    ]
    known = {entry for table in tables for entry in table}
    for name in EXPERT_LIBRARIES:
        assert any(entry == name or entry.startswith(f"{name}-") for entry in known)

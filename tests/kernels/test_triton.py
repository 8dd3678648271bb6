"""The Triton kernels without a device: numbers through Triton's interpreter, machine code by its compiler."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from rikiba.kernels import dispatch
from rikiba.kernels.grouping import TypeGroups
from rikiba.kernels.pair_convolution import _Shape

triton = pytest.importorskip("triton", reason="needs Triton: pip install 'rikiba[gpu]'")

import triton.language as tl  # noqa: E402
from compiling import Compiler  # noqa: E402
from test_pair_convolution import inputs as pair_inputs  # noqa: E402
from test_pair_convolution import plan as pair_plan  # noqa: E402
from test_symmetric_contraction import plan as product_plan  # noqa: E402

from rikiba.kernels import (  # noqa: E402
    grouping_triton,
    pair_convolution_triton,
    radial_table_triton,
    symmetric_contraction_triton,
)


@pytest.mark.parametrize(
    ("which", "count"), [("not slow", 19), pytest.param("slow", 3, marks=pytest.mark.slow)]
)
def test_numbers_through_the_interpreter(which: str, count: int) -> None:
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here.parents[1]), str(here), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-m", which]
    command += ["-W", "error::RuntimeWarning", str(here / "interpreted_triton.py")]
    run = subprocess.run(command, env=environment, cwd=here.parents[1], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert f"\n{count} passed" in run.stdout, run.stdout[-500:]


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Compiler]:
    """Launches compile instead of running."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    modules = {
        pair_convolution_triton: ("centre_sums", "sender_sums", "pair_slopes"),
        symmetric_contraction_triton: ("products", "coefficient_slopes"),
        radial_table_triton: ("table_rows",),
        grouping_triton: ("row_sums",),
    }
    found = {}
    for module, names in modules.items():
        for name in names:
            found[name] = Compiler(getattr(module, name))
            monkeypatch.setattr(module, name, found[name])
    return found


def check(kernels: dict[str, Compiler], *names: str) -> None:
    """Machine code for both architectures, without atomic operations (sums in a fixed order)."""
    for name in names:
        made = kernels[name].made
        assert {m.metadata.target.arch for m in made} == {80, 90}
        for m in made:
            assert m.asm["cubin"][:4] == b"\x7fELF"
            assert not atomics(m)


def atomics(made: object) -> list[str]:
    return re.findall(r"\b(?:atom|red)\.\S+", made.asm["ptx"])  # type: ignore[attr-defined]


@pytest.mark.parametrize(("degrees", "dtype"), [((3, 1, 3), torch.float32), ((2, 0, 2), torch.float64)])
def test_pair_convolution_compiles(
    compiled: dict[str, Compiler], degrees: tuple[int, int, int], dtype: torch.dtype
) -> None:
    plan = pair_plan(*degrees).to(torch.zeros(1, dtype=dtype))
    i, j, *rest = (x.detach() for x in pair_inputs(plan, 5, 3, 64, dtype))
    cotangent = torch.ones((3, plan.n_rows, 64), dtype=dtype)
    pair_convolution_triton.evaluate((0, 1, 2, 3), plan, _Shape(3, 3), i, j, cotangent, *rest)
    check(compiled, "centre_sums", "sender_sums", "pair_slopes")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_symmetric_contraction_compiles(compiled: dict[str, Compiler], dtype: torch.dtype) -> None:
    plan = product_plan(2, 3, (0, 1)).to(torch.zeros(1, dtype=dtype))
    a = torch.ones((4, 9, 64), dtype=dtype, requires_grad=True)
    w = [torch.ones((2, c.shape[0], 64), dtype=dtype, requires_grad=True) for c in plan.coefficients]
    order = torch.tensor([0, 2, 1, 3])
    groups = TypeGroups(order, order, ((0, 0, 2), (1, 2, 4)))
    out = symmetric_contraction_triton.evaluate(plan, a, tuple(w), groups)
    first = torch.autograd.grad(out.square().sum(), (a, *w), create_graph=True)
    torch.autograd.grad(sum(x.sum() for x in first), (a, *w))
    check(compiled, "products", "coefficient_slopes")
    # B, P, D_V B, D_V P and S(X); Q and D_V Q
    assert len(compiled["products"].made) >= 2 * 5 and len(compiled["coefficient_slopes"].made) >= 2 * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tables_and_sums_compile(compiled: dict[str, Compiler], dtype: torch.dtype) -> None:
    r = torch.linspace(1.0, 2.0, 5, dtype=dtype)
    coefficients = torch.ones((1, 4, 6, 70), dtype=dtype)
    for order in range(3):
        radial_table_triton.evaluate(order, coefficients, 1.0, 0.25, r, torch.zeros(5, dtype=torch.int64))
    for index in (torch.arange(5), torch.arange(5).flip(0)):
        grouping_triton.sum_rows(torch.ones((5, 3), dtype=dtype), index, 5)
    check(compiled, "table_rows", "row_sums")


@triton.jit
def _adds_atomically(x, n: tl.constexpr):  # type: ignore[no-untyped-def]
    tl.atomic_add(x, tl.sum(tl.arange(0, n).to(tl.float32)))


@triton.jit
def _mixes_shapes(x, n: tl.constexpr):  # type: ignore[no-untyped-def]
    tl.store(x + tl.arange(0, n), tl.arange(0, 2 * n).to(tl.float32))


def test_the_checks_can_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Negative controls: an atomic sum is seen, a kernel that does not lower raises."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = Compiler(_adds_atomically)
    kernel[(1,)](torch.zeros(1), n=8)
    assert atomics(kernel.made[0])
    with pytest.raises(triton.compiler.errors.CompilationError):
        Compiler(_mixes_shapes)[(1,)](torch.zeros(8), n=8)


def test_the_definition_is_forced_in_every_thread() -> None:
    """Autograd runs the backward pass of a GPU in a thread of its own."""

    def choice() -> object:
        return dispatch.choose("normals", int, torch.zeros(1))

    with ThreadPoolExecutor(1) as other:
        with dispatch.only_reference():
            assert other.submit(choice).result() is int
        assert other.submit(choice).result() is not int


def test_without_triton_the_definition_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dispatch._FASTER, ("there", "cpu"), "rikiba.kernels.radial_table_triton:evaluate")
    monkeypatch.setitem(dispatch._FASTER, ("broken", "cpu"), "rikiba.kernels.no_such_module:evaluate")
    reference = lambda: None  # noqa: E731
    assert dispatch.choose("there", reference, torch.zeros(1)) is radial_table_triton.evaluate
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        dispatch.choose("broken", reference, torch.zeros(1))
    monkeypatch.delitem(sys.modules, "rikiba.kernels.radial_table_triton")
    monkeypatch.setitem(sys.modules, "triton", None)
    dispatch._faster.cache_clear()
    dispatch._say_without_triton.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"rikiba\[gpu\]"):
        assert dispatch.choose("there", reference, torch.zeros(1)) is reference

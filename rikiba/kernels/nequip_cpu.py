"""A whole NequIP as two compiled functions, forward and reverse; see `rikiba.potentials.nequip`.

Every layer: messages (`irrep_message_cpu`), their mixture, the self-connection, the gate (`gate_cpu`), and
the linear map to the features that the next layer reads. Arrays of one layer are packed blocks [atoms,
components, channels], one for each representation; atoms are sorted by type.
"""

from typing import NamedTuple

import numpy as np

from .compiled import compiled, inlined
from .dense_cpu import dense
from .gate_cpu import Gates, gate_forward, gate_reverse
from .irrep_message_cpu import Couplings, Places, irrep_message_forward, irrep_message_reverse
from .lanes import LANES, add, load, splat, store

CHUNK_BYTES = 2**19
"""Messages of a chunk of atoms stay in cache."""
COUPLINGS, PLACES, GATES, MIX, UP, SKIP, SIZES = 0, 9, 14, 21, 22, 23, 24
"""Sections of whole numbers of a layer: the arrays of `Couplings` without `matrix` and `coefficient`, those
of `Places`, those of `Gates` without `factor`, products, sizes."""
MATRIX, COEFFICIENT, FACTOR, WEIGHTS, ROW, BIAS = 0, 1, 2, 3, 4, 5
"""Sections of real numbers: of `Couplings`, of `Gates`, panels of matrices, what is added to scalars behind
the mixture and to those that neighbours read, type after type."""
PRODUCT = 8
"""A product y = x·W of a block: x's numbers per atom before its block, its channels, components, the same of
y (before, channels), where the panels of W and of its transpose are, and how far on those of the next type
(0: all types share them)."""
FEATURES, MESSAGE, MIXED, OPENED, OUTPUTS, COLUMNS, ROW_STEP, BIAS_STEP = 0, 1, 2, 3, 4, 5, 6, 7
"""Sizes of a layer: numbers per atom of its arrays, columns of R, and how far on the next type's `ROW` and
`BIAS` are."""


class NequIPWeights(NamedTuple):
    """All layers, section after section."""

    whole: np.ndarray
    whole_at: np.ndarray
    """[layers, sections, 2]: where a section begins and ends."""
    real: np.ndarray
    real_at: np.ndarray


class NequIPPairs(NamedTuple):
    """The pairs of one call, grouped by centre."""

    spans: np.ndarray
    """First atom of each type, and the number of atoms."""
    start: np.ndarray
    sender: np.ndarray
    sender_of_first: np.ndarray
    """Zeros: the first layer's features are in its table."""
    weights: np.ndarray
    """[pairs·12]: spline weights of value and slope."""
    harmonics: np.ndarray
    """[pairs·n_lm]."""
    slope: np.ndarray
    """∂E/∂r, to be added to."""
    harmonics_slope: np.ndarray
    """[pairs·n_lm]: ∂E/∂Y, to be added to."""
    n_lm: int


@inlined
def _whole(net, t, section):  # type: ignore[no-untyped-def]
    return net.whole[net.whole_at[t, section, 0] : net.whole_at[t, section, 1]]


@inlined
def _real(net, t, section):  # type: ignore[no-untyped-def]
    return net.real[net.real_at[t, section, 0] : net.real_at[t, section, 1]]


@compiled
def _couplings(net, t):  # type: ignore[no-untyped-def]
    c = COUPLINGS
    return Couplings(
        _whole(net, t, c), _whole(net, t, c + 1), _whole(net, t, c + 2), _whole(net, t, c + 3),
        _whole(net, t, c + 4), _whole(net, t, c + 5), _whole(net, t, c + 6), _real(net, t, MATRIX),
        _whole(net, t, c + 7), _whole(net, t, c + 8), _real(net, t, COEFFICIENT),
    )  # fmt: skip


@compiled
def _places(net, t):  # type: ignore[no-untyped-def]
    c = PLACES
    return Places(
        _whole(net, t, c), _whole(net, t, c + 1), _whole(net, t, c + 2), _whole(net, t, c + 3),
        _whole(net, t, c + 4),
    )  # fmt: skip


@compiled
def _gates(net, t):  # type: ignore[no-untyped-def]
    c = GATES
    return Gates(
        _whole(net, t, c), _whole(net, t, c + 1), _whole(net, t, c + 2), _whole(net, t, c + 3),
        _whole(net, t, c + 4), _whole(net, t, c + 5), _whole(net, t, c + 6), _real(net, t, FACTOR),
    )  # fmt: skip


@compiled
def further_rows(row, piece, kind, slots, rows, first_row):  # type: ignore[no-untyped-def]
    """Rows of a spline in one piece → of one whose second piece begins after `piece` intervals (5 more rows).

    Fills `first_row`, of a table that has a part for each kind: its number is in `slots`.
    """
    for q in range(len(row)):
        if row[q] >= piece:
            row[q] += 5
        first_row[q] = row[q] + slots[kind[q]] * rows


@compiled
def chunk_of(net, itemsize):  # type: ignore[no-untyped-def]
    """How many atoms are taken together."""
    most = 1
    for t in range(len(net.whole_at)):
        most = max(most, _whole(net, t, SIZES)[MESSAGE])
    return max(16, min(512, CHUNK_BYTES // (most * itemsize)))


@compiled
def nequip_space(net, n, chunk):  # type: ignore[no-untyped-def]
    """How many numbers the sweeps need as their `space` for n atoms, of which `chunk` are taken together."""
    count, message, out = 0, 0, 0
    for t in range(len(net.whole_at)):
        size = _whole(net, t, SIZES)
        count += n * (2 * size[FEATURES] + size[MIXED] + size[OPENED] + size[OUTPUTS])
        message, out = max(message, size[MESSAGE]), max(out, size[OUTPUTS])
    last = _whole(net, len(net.whole_at) - 1, SIZES)
    return count + n * last[OUTPUTS] + chunk * (message + out)


@compiled
def _layer(net, t, n, space):  # type: ignore[no-untyped-def]
    """(features, their derivatives, mixture, opened gates, outputs) of a layer."""
    at = 0
    for k in range(t):
        size = _whole(net, k, SIZES)
        at += n * (2 * size[FEATURES] + size[MIXED] + size[OPENED] + size[OUTPUTS])
    size = _whole(net, t, SIZES)
    a = at + n * size[FEATURES]
    b = a + n * size[FEATURES]
    c = b + n * size[MIXED]
    d = c + n * size[OPENED]
    return space[at:a], space[a:b], space[b:c], space[c:d], space[d : d + n * size[OUTPUTS]]


@compiled
def _buffers(net, n, chunk, space):  # type: ignore[no-untyped-def]
    """(derivatives of the last outputs, messages of a chunk, derivatives of its outputs)."""
    at, message, out = 0, 0, 0
    for t in range(len(net.whole_at)):
        size = _whole(net, t, SIZES)
        at += n * (2 * size[FEATURES] + size[MIXED] + size[OPENED] + size[OUTPUTS])
        message, out = max(message, size[MESSAGE]), max(out, size[OUTPUTS])
    a = at + n * _whole(net, len(net.whole_at) - 1, SIZES)[OUTPUTS]
    b = a + chunk * message
    return space[at:a], space[a:b], space[b : b + chunk * out]


@compiled
def nequip_outputs(net, n, space):  # type: ignore[no-untyped-def]
    """(outputs of the last layer, their derivatives, to be filled between the sweeps)."""
    return _layer(net, len(net.whole_at) - 1, n, space)[4], _buffers(net, n, 0, space)[0]


@compiled
def _multiply(  # type: ignore[no-untyped-def]
    products, weights, spans, a, b, x, x_first, x_n, y, y_first, y_n, back, adding
):
    """The products of atoms a … b − 1; with `back` from ∂E/∂y to ∂E/∂x."""
    nothing = weights[:0]
    for p in range(0, len(products), PRODUCT):
        x_before, x_width, d, y_before = products[p], products[p + 1], products[p + 2], products[p + 3]
        y_width, step = products[p + 4], products[p + 7]
        for k in range(len(spans) - 1):
            s, e = (max(a, spans[k]), min(b, spans[k + 1])) if step else (a, b)
            if e > s:
                x_at = x_before * x_n + (s - x_first) * d * x_width
                y_at = y_before * y_n + (s - y_first) * d * y_width
                rows = (e - s) * d
                if back:
                    w = products[p + 6] + k * step
                    dense(
                        y, y_at, y_width, rows, y_width, weights, w, nothing, 0, x, x_at, x_width, x_width,
                        adding,
                    )  # fmt: skip
                else:
                    w = products[p + 5] + k * step
                    dense(
                        x, x_at, x_width, rows, x_width, weights, w, nothing, 0, y, y_at, y_width, y_width,
                        adding,
                    )  # fmt: skip
            if not step:
                break


@compiled
def _add_rows(rows, step, width, spans, a, b, y):  # type: ignore[no-untyped-def]
    """y[atom] += the row of its type, of the first block."""
    for k in range(len(spans) - 1):
        for n in range(max(a, spans[k]), min(b, spans[k + 1])):
            for v in range(0, width, LANES):
                store(y, n * width + v, add(load(y, n * width + v), load(rows, k * step + v)))


@compiled
def nequip_forward(  # type: ignore[no-untyped-def]
    net, t_from, t_to, first, last, chunk, pairs, row_of_first, first_table, row, table, table_at, space
):
    """Layers t_from … t_to − 1 of atoms first … last − 1, which are all atoms or, of one layer, a chunk.

    The first layer reads rows `row_of_first` of `first_table`; layer t rows `row` of `table` from table_at[t]
    on.
    """
    n = pairs.spans[-1]
    n_layers, n_lm = len(net.whole_at), pairs.n_lm
    message = _buffers(net, n, chunk, space)[1]
    ones = np.ones(_whole(net, 0, SIZES)[MIXED], space.dtype)
    for t in range(t_from, t_to):
        size, weights = _whole(net, t, SIZES), _real(net, t, WEIGHTS)
        features, _, mixed, opened, out = _layer(net, t, n, space)
        couplings, places, gates = _couplings(net, t), _places(net, t), _gates(net, t)
        for a in range(first, last, chunk):
            b = min(a + chunk, last)
            if t == 0:
                irrep_message_forward(
                    a, b, pairs.start, pairs.sender_of_first, row_of_first, pairs.weights, first_table,
                    size[COLUMNS], ones, 1, pairs.harmonics, n_lm, couplings, places, mixed, 0, n,
                )  # fmt: skip
            else:
                irrep_message_forward(
                    a, b, pairs.start, pairs.sender, row, pairs.weights, table[table_at[t] :], size[COLUMNS],
                    features, n, pairs.harmonics, n_lm, couplings, places, message, a, b - a,
                )  # fmt: skip
                products = _whole(net, t, MIX)
                _multiply(products, weights, pairs.spans, a, b, message, a, b - a, mixed, 0, n, False, False)
                before = _layer(net, t - 1, n, space)[4]
                products = _whole(net, t, SKIP)
                _multiply(products, weights, pairs.spans, a, b, before, 0, n, mixed, 0, n, False, True)
            rows = _real(net, t, ROW)
            if len(rows):
                _add_rows(rows, size[ROW_STEP], gates.width[0], pairs.spans, a, b, mixed)
            gate_forward(a, b, gates, mixed, n, opened, out, 0, n)
            if t + 1 < n_layers:
                products, weights_up = _whole(net, t + 1, UP), _real(net, t + 1, WEIGHTS)
                after = _layer(net, t + 1, n, space)[0]
                _multiply(products, weights_up, pairs.spans, a, b, out, 0, n, after, 0, n, False, False)
                rows = _real(net, t + 1, BIAS)
                if len(rows):
                    step = _whole(net, t + 1, SIZES)[BIAS_STEP]
                    _add_rows(rows, step, products[4], pairs.spans, a, b, after)


@compiled
def nequip_reverse(  # type: ignore[no-untyped-def]
    net, t_from, t_to, first, last, chunk, pairs, row_of_first, first_table, row, table, table_at, space
):
    """Back through layers t_to − 1 … t_from; adds to the derivatives of the pairs."""
    n = pairs.spans[-1]
    n_layers, n_lm = len(net.whole_at), pairs.n_lm
    top, message, passed = _buffers(net, n, chunk, space)
    width = _whole(net, 0, SIZES)[MIXED]
    ones, unread = np.ones(width, space.dtype), np.zeros(width, space.dtype)
    zero = splat(space.dtype.type(0))
    for t in range(t_to - 1, t_from - 1, -1):
        size, weights = _whole(net, t, SIZES), _real(net, t, WEIGHTS)
        features, feature_slope, mixed, opened, _ = _layer(net, t, n, space)
        couplings, places, gates = _couplings(net, t), _places(net, t), _gates(net, t)
        if first == 0:
            for v in range(0, len(feature_slope), LANES):
                store(feature_slope, v, zero)
        for a in range(first, last, chunk):
            b = min(a + chunk, last)
            if t + 1 < n_layers:
                _, slope_after, mixed_after, _, _ = _layer(net, t + 1, n, space)
                products, weights_after = _whole(net, t + 1, UP), _real(net, t + 1, WEIGHTS)
                _multiply(
                    products, weights_after, pairs.spans, a, b, passed, a, b - a, slope_after, 0, n, True,
                    False,
                )  # fmt: skip
                products = _whole(net, t + 1, SKIP)
                _multiply(
                    products, weights_after, pairs.spans, a, b, passed, a, b - a, mixed_after, 0, n, True,
                    True,
                )  # fmt: skip
                gate_reverse(a, b, gates, mixed, n, opened, passed, a, b - a)
            else:
                gate_reverse(a, b, gates, mixed, n, opened, top, 0, n)
            if t == 0:
                irrep_message_reverse(
                    a, b, pairs.start, pairs.sender_of_first, row_of_first, pairs.weights, first_table,
                    size[COLUMNS], ones, 1, pairs.harmonics, n_lm, couplings, places, mixed, 0, n,
                    pairs.slope, pairs.harmonics_slope, unread,
                )  # fmt: skip
                continue
            products = _whole(net, t, MIX)
            _multiply(products, weights, pairs.spans, a, b, message, a, b - a, mixed, 0, n, True, False)
            irrep_message_reverse(
                a, b, pairs.start, pairs.sender, row, pairs.weights, table[table_at[t] :], size[COLUMNS],
                features, n, pairs.harmonics, n_lm, couplings, places, message, a, b - a, pairs.slope,
                pairs.harmonics_slope, feature_slope,
            )  # fmt: skip

"""LSTM and GRU with the dropout that was published for them, as layers that run."""

from __future__ import annotations

from typing import Any

import torch

from thinned import checks
from thinned.checks import message
from thinned.foreign_arguments import told
from thinned.torch.compat import recurrence
from thinned.torch.rnn.layer import Recurrent, option

__all__ = ["GRU", "LSTM"]

_OPTIONS = """Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, bidirectional, device, dtype : as in
        torch.nn, whose order of arguments this is.
    dropout : as in torch.nn: on what goes from layer to layer, one draw per element.
    p : float in [0, 1] or None. The main probability: that of every option below which is given as
        True. `module.p = ` and a schedule of `adopt` move this one, and a compiled adopted model
        does not compile again for it. Options given as numbers stay what they are.
    input_p : float in [0, 1] or True. Locked dropout of the input: one mask for all steps, and one
        for all gates: Gal and Ghahramani's tied form, also with recurrent="gal".
    between_p : the same, of what goes from layer to layer, instead of `dropout`.
    output_p : the same, of the output; not of the last states.
    recurrent_p : float in [0, 1] or True. Dropout inside of the cell, by `recurrent`.
    recurrent : "candidate", the candidate update alone, anew for each step (Semeniuta et al.); or
        "gal", the hidden state on its way into the gates, a mask for each gate and the same for all
        steps (Gal and Ghahramani).
    weight_p : float in [0, 1] or True. Drops elements of the hidden-to-hidden weights, scaled by
        1 / (1 - p), once for each call (Merity et al.). The gradient reaches the whole weight."""

_REST = """The numbers are torch.nn's where nothing is dropped, and so is their speed; also with
    `input_p`, `dropout`, `between_p`, `output_p` and `weight_p` alone, which leave the steps to
    PyTorch. With `recurrent_p` or zoneout a loop in Python takes the steps. Parameters have
    torch.nn's names, and a state_dict goes both ways.

    All masks of a call come from one address: alone, of 64 fresh bits of PyTorch's default
    generator; adopted, of the layer's site. They are drawn by row of the batch, step and unit, so
    that packed, padded, batch_first and pieces of a batch make no difference. In evaluation nothing
    is drawn, and zoneout takes the expectation."""


@told
class LSTM(Recurrent):
    __doc__ = f"""torch.nn.LSTM with locked, recurrent and weight dropout, and zoneout.

    i, f, o = sigmoid(...), g = tanh(...) of W_ih x + b_ih + W_hh h + b_hh, gate by gate;
    c' = f c + i drop(g),  h' = o tanh(c');  zoneout: c = m c' + (1 - m) c,  h = m h' + (1 - m) h.

    {_OPTIONS}
    zoneout_hidden_p, zoneout_cell_p : float in [0, 1] or True. Probability that a unit of h, of c,
        keeps the value of the step before (Krueger et al.).

    Call
    ----
    layer(input, hx=None) -> (output, (h_n, c_n)), shapes as in torch.nn: input (T, N, F), (N, T, F)
    with batch_first, (T, F), or a PackedSequence; hx a pair (h_0, c_0).

    {_REST}

    Raises
    ------
    ValueError if a probability is outside [0, 1], p rules nothing, a shape does not fit, or
    proj_size is not 0. TypeError if p is missing, or the input is of another type than the weights.

    References
    ----------
    Gal and Ghahramani, 2016, arXiv:1512.05287; Semeniuta et al., 2016, arXiv:1603.05118; Krueger et
    al., 2017, arXiv:1606.01305; Merity et al., 2018, arXiv:1708.02182.

    Examples
    --------
    >>> import torch, thinned.torch
    >>> thinned.torch.LSTM(8, 16, num_layers=2, p=0.3, input_p=True, between_p=True, weight_p=0.5)
    LSTM(8, 16, num_layers=2, p=0.3, input_p=True, between_p=True, weight_p=0.5)
    """

    gates, mode = 4, "LSTM"
    run, step = torch.lstm, recurrence.lstm
    zoneout_hidden_p = option("zoneout_hidden_p")
    zoneout_cell_p = option("zoneout_cell_p")
    rates = (
        "input_p",
        "dropout",
        "between_p",
        "output_p",
        "recurrent_p",
        "weight_p",
        "zoneout_hidden_p",
        "zoneout_cell_p",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float | bool = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        p: float | None = None,
        input_p: float | bool = 0.0,
        between_p: float | bool = 0.0,
        output_p: float | bool = 0.0,
        recurrent_p: float | bool = 0.0,
        recurrent: str = "candidate",
        weight_p: float | bool = 0.0,
        zoneout_hidden_p: float | bool = 0.0,
        zoneout_cell_p: float | bool = 0.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if checks.integer("LSTM", "proj_size", proj_size, 0, 2**31) != 0:
            remedy = "Put a torch.nn.Linear behind the layer, or use torch.nn.LSTM."
            raise ValueError(message("LSTM", "proj_size", "0", proj_size, remedy))
        flags = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
        rates = {
            "input_p": input_p,
            "dropout": dropout,
            "between_p": between_p,
            "output_p": output_p,
            "recurrent_p": recurrent_p,
            "weight_p": weight_p,
            "zoneout_hidden_p": zoneout_hidden_p,
            "zoneout_cell_p": zoneout_cell_p,
        }
        sizes = (input_size, hidden_size, num_layers)
        super().__init__(sizes, flags, p, recurrent, rates, device, dtype)


@told
class GRU(Recurrent):
    __doc__ = f"""torch.nn.GRU with locked, recurrent and weight dropout, and zoneout.

    r, z = sigmoid(...) of W_ih x + b_ih + W_hh h + b_hh, gate by gate;
    n = tanh(W_in x + b_in + r (W_hn h + b_hn));  h' = z h + (1 - z) drop(n);
    zoneout: h = m h' + (1 - m) h.

    {_OPTIONS}
    zoneout_hidden_p : float in [0, 1] or True. Probability that a unit of h keeps the value of the
        step before (Krueger et al.).

    Call
    ----
    layer(input, hx=None) -> (output, h_n), shapes as in torch.nn: input (T, N, F), (N, T, F) with
    batch_first, (T, F), or a PackedSequence; hx a tensor h_0.

    {_REST}

    Raises
    ------
    ValueError if a probability is outside [0, 1], p rules nothing, or a shape does not fit.
    TypeError if p is missing, or the input is of another type than the weights.

    References
    ----------
    Gal and Ghahramani, 2016, arXiv:1512.05287; Semeniuta et al., 2016, arXiv:1603.05118; Krueger et
    al., 2017, arXiv:1606.01305; Merity et al., 2018, arXiv:1708.02182.

    Examples
    --------
    >>> import torch, thinned.torch
    >>> thinned.torch.GRU(8, 16, recurrent_p=0.25, zoneout_hidden_p=0.1)
    GRU(8, 16, recurrent_p=0.25, zoneout_hidden_p=0.1)
    """

    gates, mode = 3, "GRU"
    run, step = torch.gru, recurrence.gru
    zoneout_hidden_p = option("zoneout_hidden_p")
    rates = (
        "input_p",
        "dropout",
        "between_p",
        "output_p",
        "recurrent_p",
        "weight_p",
        "zoneout_hidden_p",
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float | bool = 0.0,
        bidirectional: bool = False,
        *,
        p: float | None = None,
        input_p: float | bool = 0.0,
        between_p: float | bool = 0.0,
        output_p: float | bool = 0.0,
        recurrent_p: float | bool = 0.0,
        recurrent: str = "candidate",
        weight_p: float | bool = 0.0,
        zoneout_hidden_p: float | bool = 0.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        flags = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
        rates = {
            "input_p": input_p,
            "dropout": dropout,
            "between_p": between_p,
            "output_p": output_p,
            "recurrent_p": recurrent_p,
            "weight_p": weight_p,
            "zoneout_hidden_p": zoneout_hidden_p,
        }
        sizes = (input_size, hidden_size, num_layers)
        super().__init__(sizes, flags, p, recurrent, rates, device, dtype)

"""torch_geometric: its models, and networks of the convolutions and functions that drop."""

import torch
import torch_geometric.nn as geometric
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it
from torch_geometric.utils import dropout_edge, dropout_node, dropout_path, mask_feature

from .arguments import NotBuiltError
from .runs import step
from .subject import Subject, awaken

NODES, FEATURES, HIDDEN = 20, 8, 16
P = 0.2


def _edges():
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, NODES, (2, 60), generator=generator)


def _x():
    return torch.randn(NODES, FEATURES, generator=torch.Generator().manual_seed(4))


class Net(nn.Module):
    """Two convolutions, and before them what changes the graph in training."""

    def __init__(self, conv, change=None, functional=True):
        super().__init__()
        self.first, self.last = conv(FEATURES, HIDDEN), conv(HIDDEN, 4)
        self.change, self.functional = change, functional

    def forward(self, x, edge_index):
        if self.change is not None:
            x, edge_index = self.change(self, x, edge_index)
        h = self.first(x, edge_index).relu()
        if self.functional:
            h = F.dropout(h, P, self.training)
        return self.last(h, edge_index)


def _basic(kind, **more):
    return lambda: kind(FEATURES, HIDDEN, 2, 4, dropout=P, **more)


def _pna():
    return geometric.PNA(
        *(FEATURES, HIDDEN, 2, 4),
        dropout=P,
        aggregators=["mean", "max"],
        scalers=["identity", "amplification"],
        deg=torch.tensor([0, 5, 10, 5]),
    )


def _polynormer():
    rates = {"in_dropout": P, "dropout": P, "global_dropout": P}
    return WithBatch(
        geometric.Polynormer(FEATURES, HIDDEN, 4, local_layers=2, global_layers=1, heads=1, **rates)
    )


def _on_edges(net, x, edges):
    return x, dropout_edge(edges, p=P, training=net.training)[0]


def _on_nodes(net, x, edges):
    return x, dropout_node(edges, p=P, num_nodes=NODES, training=net.training)[0]


def _on_paths(net, x, edges):
    return x, dropout_path(edges, p=P, num_nodes=NODES, training=net.training)[0]


def _on_features(net, x, edges):
    return mask_feature(x, p=P, training=net.training)[0], edges


def _gat(i, o):
    return geometric.GATConv(i, o, heads=2, concat=False, dropout=P)


def _gatv2(i, o):
    return geometric.GATv2Conv(i, o, heads=2, concat=False, dropout=P)


def _transformer(i, o):
    return geometric.TransformerConv(i, o, heads=2, concat=False, dropout=P)


def _supergat(i, o):
    return geometric.SuperGATConv(i, o, heads=2, concat=False, dropout=P)


class Gps(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.inward = nn.Linear(FEATURES, HIDDEN)
        self.layer = geometric.GPSConv(
            HIDDEN, geometric.GCNConv(HIDDEN, HIDDEN), heads=2, dropout=P, attn_type=attention
        )

    def forward(self, x, edge_index):
        return self.layer(self.inward(x), edge_index)


class Deep(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.inward = nn.Linear(FEATURES, HIDDEN)
        self.layers = nn.ModuleList(
            geometric.DeepGCNLayer(
                geometric.GENConv(HIDDEN, HIDDEN), nn.LayerNorm(HIDDEN), nn.ReLU(), block, P
            )
            for _ in range(2)
        )

    def forward(self, x, edge_index):
        h = self.inward(x)
        for layer in self.layers:
            h = layer(h, edge_index)
        return h


class DeepRecomputed(Deep):
    def __init__(self):
        super().__init__("res+")
        for layer in self.layers:
            layer.ckpt_grad = True


class OnNodesAlone(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, edge_index):
        return self.inner(x)


class WithBatch(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, edge_index):
        return self.inner(x, edge_index, torch.zeros(len(x), dtype=torch.long))


class Reversible(nn.Module):
    """Layers whose backward pass computes their forward again."""

    def __init__(self):
        super().__init__()
        self.inward = nn.Linear(FEATURES, HIDDEN)
        self.layer = geometric.GroupAddRev(Half(), num_groups=2)

    def forward(self, x, edge_index):
        return self.layer(self.inward(x), edge_index)


class Half(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = geometric.GCNConv(HIDDEN // 2, HIDDEN // 2)

    def reset_parameters(self):
        self.conv.reset_parameters()

    def forward(self, x, edge_index):
        return F.dropout(self.conv(x, edge_index).relu(), P, self.training)


MODELS = {
    "GCN": _basic(geometric.GCN),
    "GCN, jumping knowledge": _basic(geometric.GCN, jk="cat"),
    "GraphSAGE": _basic(geometric.GraphSAGE),
    "GIN": _basic(geometric.GIN),
    "GAT": _basic(geometric.GAT, heads=2),
    "GAT, v2": _basic(geometric.GAT, heads=2, v2=True),
    "PNA": _pna,
    "EdgeCNN": _basic(geometric.EdgeCNN),
    "MLP": lambda: OnNodesAlone(geometric.MLP([FEATURES, HIDDEN, 4], dropout=P)),
    "PMLP": lambda: geometric.PMLP(FEATURES, HIDDEN, 4, 2, dropout=P),
    "GraphUNet": lambda: geometric.GraphUNet(FEATURES, HIDDEN, 4, depth=2),
    "LINKX": lambda: geometric.LINKX(NODES, FEATURES, HIDDEN, 4, 2, dropout=P),
    "DeepGCNLayer, res+": lambda: Deep("res+"),
    "DeepGCNLayer, res": lambda: Deep("res"),
    "DeepGCNLayer, plain": lambda: Deep("plain"),
    "DeepGCNLayer, checkpointed": DeepRecomputed,
    "GPSConv, multihead": lambda: Gps("multihead"),
    "GPSConv, performer": lambda: Gps("performer"),
    "Polynormer": _polynormer,
    "SGFormer": lambda: WithBatch(geometric.SGFormer(
        FEATURES, HIDDEN, 4, trans_num_heads=1, trans_dropout=P, gnn_dropout=P)),
    "GATConv": lambda: Net(_gat),
    "GATv2Conv": lambda: Net(_gatv2),
    "TransformerConv": lambda: Net(_transformer),
    "SuperGATConv": lambda: Net(_supergat),
    "dropout_edge": lambda: Net(geometric.GCNConv, _on_edges),
    "dropout_node": lambda: Net(geometric.GCNConv, _on_nodes),
    "dropout_path": lambda: Net(geometric.GCNConv, _on_paths),
    "mask_feature": lambda: Net(geometric.GCNConv, _on_features),
    "dropout_edge alone": lambda: Net(geometric.GCNConv, _on_edges, functional=False),
    "GroupAddRev": Reversible,
}  # fmt: skip


def names():
    return list(MODELS)


def subjects(name):
    torch.manual_seed(0)
    try:
        ran, model = MODELS[name](), MODELS[name]()
        awaken(model)
        subject = Subject(name, "", model.train(), (_x(), _edges()))
        step(ran, subject.call, 0)
    except Exception as error:
        raise NotBuiltError(
            f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        ) from None
    return [subject]

"""Models that misuse dropout, each beside its right twin: code as people write it."""

import functools

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


def text(rows=32):
    return torch.randint(0, 50, (rows, 12))


def vectors(rows=32):
    return torch.randn(rows, 8)


def pictures(rows=16):
    return torch.randn(rows, 3, 8, 8)


class Thrown(nn.Module):
    def __init__(self, right):
        super().__init__()
        self.right = right
        self.fc1, self.fc2 = nn.Linear(8, 64), nn.Linear(64, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        if self.right:
            x = self.drop(x)
        else:
            self.drop(x)
        return self.fc2(x)


class ThrownCall(nn.Module):
    def __init__(self, right):
        super().__init__()
        self.right, self.embedding = right, nn.Embedding(50, 16)
        self.rnn, self.out = nn.GRU(16, 32, batch_first=True), nn.Linear(32, 4)

    def forward(self, tokens):
        embedded = self.embedding(tokens)
        dropped = F.dropout(embedded, p=0.3, training=self.training)
        states, _ = self.rnn(dropped if self.right else embedded)
        return self.out(states[:, -1])


class StochasticDepth(nn.Module):
    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        if not self.training or self.drop_prob == 0.0:
            return x
        keep = 1 - self.drop_prob
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        return x * x.new_empty(shape).bernoulli_(keep) / keep


class ThrownPath(nn.Module):
    def __init__(self, right):
        super().__init__()
        self.right, self.fc, self.path = right, nn.Linear(8, 8), StochasticDepth(0.2)

    def forward(self, x):
        y = self.fc(x)
        dropped = self.path(y)
        return x + (dropped if self.right else y)


class KeptForLater(nn.Module):
    """The dropped weights are looked at by whoever draws them: not thrown away."""

    def __init__(self):
        super().__init__()
        self.fc, self.drop, self.weights = nn.Linear(8, 8), nn.Dropout(0.1), None

    def forward(self, x):
        weights = torch.softmax(self.fc(x), -1)
        self.weights = self.drop(weights)
        return weights * x


class EvalZeroes(nn.Module):
    """p is taken away in evaluation, and comes back only in the right one."""

    def __init__(self, right):
        super().__init__()
        self.right, self.p = right, 0.3  # of which 1 - (1 - p) is another number
        self.fc1, self.fc2 = nn.Linear(8, 64), nn.Linear(64, 4)

    def forward(self, x):
        if not self.training:
            if not self.right:
                self.p = 0.0
            return self.fc2(torch.tanh(self.fc1(x)))
        return self.fc2(F.dropout(torch.tanh(self.fc1(x)), self.p))


class EvalOfModules(nn.Module):
    def __init__(self, right):
        super().__init__()
        self.right = right
        self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 4))

    def train(self, mode=True):
        super().train(mode)
        for module in self.net:
            if isinstance(module, nn.Dropout):
                if not mode:
                    module.p = 0.0
                elif self.right:
                    module.p = 0.3
        return self

    def forward(self, x):
        return self.net(x)


class EvalSwitch(nn.Module):
    def __init__(self, right):
        super().__init__()
        self.right, self.use_dropout = right, True
        self.fc1, self.fc2 = nn.Linear(8, 64), nn.Linear(64, 4)

    def eval(self):
        self.use_dropout = False
        return super().eval()

    def train(self, mode=True):
        if mode and self.right:
            self.use_dropout = True
        elif not mode:
            self.use_dropout = False
        return super().train(mode)

    def forward(self, x):
        x = torch.tanh(self.fc1(x))
        if self.use_dropout:
            x = F.dropout(x, 0.5)
        return self.fc2(x)


class KeepProb(nn.Module):
    def __init__(self, right, keep_prob=0.9):
        super().__init__()
        self.right, self.keep_prob = right, keep_prob
        self.fc1, self.fc2 = nn.Linear(8, 64), nn.Linear(64, 4)

    def forward(self, x):
        p = 1 - self.keep_prob if self.right else self.keep_prob
        return self.fc2(F.dropout(self.fc1(x).relu(), p, self.training))


class KeepProbLayer(nn.Module):
    def __init__(self, keep_prob=0.8):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 64), nn.Linear(64, 4)
        self.dropout = nn.Dropout(p=keep_prob)

    def forward(self, x):
        return self.fc2(self.dropout(torch.relu(self.fc1(x))))


class KeepProbLayerRight(KeepProbLayer):
    def __init__(self, keep_prob=0.8):
        nn.Module.__init__(self)
        self.fc1, self.fc2 = nn.Linear(8, 64), nn.Linear(64, 4)
        self.dropout = nn.Dropout(p=1.0 - keep_prob)


class UnusedArgument(nn.Module):
    def __init__(self, hidden=64, dropout=0.2):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 4))

    def forward(self, x):
        return self.net(x)


class UsedArgument(UnusedArgument):
    def __init__(self, hidden=64, dropout=0.2):
        nn.Module.__init__(self)
        drop = nn.Dropout(dropout)
        self.net = nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), drop, nn.Linear(hidden, 4))


def noted(init):
    """A decorator that keeps what a constructor was given, as frameworks' do."""

    @functools.wraps(init)
    def wrapper(self, *args, **kwargs):
        init(self, *args, **kwargs)

    return wrapper


class Decorated(nn.Module):
    @noted
    def __init__(self, dropout=0.3):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 64), nn.Dropout(dropout), nn.Linear(64, 4))

    def forward(self, x):
        return self.net(x)


class ByLocals(nn.Module):
    """Reads its arguments by another way than their names."""

    def __init__(self, dropout=0.3):
        super().__init__()
        told = {key: value for key, value in locals().items() if key != "self"}
        self.net = nn.Sequential(nn.Linear(8, 64), nn.Dropout(told["dropout"]), nn.Linear(64, 4))

    def forward(self, x):
        return self.net(x)


class UnusedAttribute(nn.Module):
    def __init__(self, right, drop_rate=0.35):
        super().__init__()
        self.drop_rate = drop_rate
        self.fc1, self.fc2 = nn.Linear(8, 64), nn.Linear(64, 4)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


class UnusedAttributeRight(UnusedAttribute):
    def forward(self, x):
        h = torch.tanh(self.fc1(x))
        return self.fc2(F.dropout(h, self.drop_rate, self.training))


class ByConfig(nn.Module):
    """Takes what it does not need, as a family's shared signature has it."""

    def __init__(self, dropout=0.0, **more):
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(x)


class Block(nn.Module):
    """Drops its path only where it has a residual connection."""

    def __init__(self, width, out):
        super().__init__()
        self.fc, self.has_skip = nn.Linear(width, out), width == out
        self.path = StochasticDepth(0.2)

    def forward(self, x):
        y = torch.tanh(self.fc(x))
        return x + self.path(y) if self.has_skip else y


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(8, 16), Block(16, 16), Block(16, 4))

    def forward(self, x):
        return self.blocks(x)


class Logits(nn.Module):
    def __init__(self, right, end="log_softmax"):
        super().__init__()
        self.right, self.end = right, end
        self.fc1, self.fc2, self.drop = nn.Linear(8, 64), nn.Linear(64, 10), nn.Dropout(0.5)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = self.fc2(self.drop(x)) if self.right else self.drop(self.fc2(x))
        if self.end == "log_softmax":
            return F.log_softmax(x, dim=1)
        return F.softmax(x, dim=-1)


class Classifier(nn.Module):
    def __init__(self, right):
        super().__init__()
        self.right, self.drop = right, nn.Dropout(0.2)
        self.body, self.classifier = nn.Linear(8, 64), nn.Linear(64, 5)

    def forward(self, x):
        x = torch.relu(self.body(x))
        return self.classifier(self.drop(x)) if self.right else self.drop(self.classifier(x))


class LogitsInLoss(nn.Module):
    def __init__(self, right):
        super().__init__()
        self.right, self.decoder = right, nn.Linear(16, 50)
        self.embedding, self.dropout = nn.Embedding(50, 16), nn.Dropout(0.2)

    def forward(self, tokens):
        h = self.embedding(tokens)
        scores = self.decoder(self.dropout(h)) if self.right else self.dropout(self.decoder(h))
        return F.cross_entropy(scores.transpose(1, 2) if self.right else scores, self.given(tokens))

    def given(self, tokens):
        if self.right:
            return tokens
        return torch.zeros(len(tokens), 50).scatter(1, tokens, 1.0).long()[:, :50]


class Attended(nn.Module):
    """Dropped scores of attention, and the dropped output of a block: no logits."""

    def __init__(self):
        super().__init__()
        self.score, self.value = nn.Linear(16, 1), nn.Linear(16, 16)
        self.embedding, self.drop = nn.Embedding(50, 16), nn.Dropout(0.1)

    def forward(self, tokens):
        x = self.embedding(tokens)
        weights = torch.softmax(self.drop(self.score(x)), dim=1)
        return self.drop(self.value((weights * x).sum(1)))


class Channels(nn.Module):
    def __init__(self, right):
        super().__init__()
        self.right, self.embedding = right, nn.Embedding(50, 16)
        self.drop, self.out = nn.Dropout1d(0.3), nn.Linear(16, 4)

    def forward(self, tokens):
        x = self.embedding(tokens)
        x = self.drop(x.transpose(1, 2)).transpose(1, 2) if self.right else self.drop(x)
        return self.out(x.mean(1))


class ChannelsOfVectors(nn.Module):
    def __init__(self, right):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 64), nn.Linear(64, 4)
        self.drop = nn.Dropout(0.3) if right else nn.Dropout1d(0.3)

    def forward(self, x):
        return self.fc2(self.drop(torch.relu(self.fc1(x))))


class ChannelsOfStates(nn.Module):
    def __init__(self, right):
        super().__init__()
        self.rnn = nn.LSTM(8, 16, batch_first=True)
        self.drop, self.out = (nn.Dropout if right else nn.Dropout2d)(0.3), nn.Linear(16, 4)

    def forward(self, x):
        states, _ = self.rnn(x[:, None].expand(-1, 5, -1))
        return self.out(self.drop(states)[:, -1])


class KeepProbList(nn.Module):
    def __init__(self, keep_prob=0.75):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.drops = nn.ModuleList([nn.Dropout(keep_prob), nn.Identity()])

    def forward(self, x):
        for layer, drop in zip(self.layers, self.drops, strict=True):
            x = drop(torch.tanh(layer(x)))
        return self.layers[0](x)


class KeepProbListRight(KeepProbList):
    def __init__(self, keep_prob=0.75):
        nn.Module.__init__(self)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.drops = nn.ModuleList([nn.Dropout(1 - keep_prob), nn.Identity()])


class ChannelsLast(nn.Module):
    def __init__(self, right):
        super().__init__()
        self.right, self.conv = right, nn.Conv2d(3, 16, 3)
        self.norm, self.fc, self.drop = nn.LayerNorm(16), nn.Linear(16, 16), nn.Dropout2d(0.3)

    def forward(self, x):
        x = self.fc(self.norm(self.conv(x).permute(0, 2, 3, 1)))
        if self.right:
            return self.drop(x.permute(0, 3, 1, 2)).mean((2, 3))
        return self.drop(torch.relu(x)).mean((1, 2))


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)
        self.drop, self.fc = nn.Dropout2d(0.2), nn.Linear(16, 4)

    def forward(self, x):
        x = self.drop(F.relu(self.conv1(x)))
        return self.fc(self.drop(F.relu(self.conv2(x))).mean((2, 3)))


class InPlaceResidual(nn.Module):
    def __init__(self, right):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 4)
        self.drop = nn.Dropout(0.3, inplace=not right)

    def forward(self, x):
        x = self.fc1(x)
        residual = x
        x = self.drop(x)
        x = self.fc2(x)
        return x + residual[:, :4]


class InPlaceSum(nn.Module):
    def __init__(self, right):
        super().__init__()
        self.right, self.fc1, self.fc2 = right, nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.fc1(x)
        return self.fc2(x + F.dropout(x, 0.2, self.training, inplace=not self.right))


class InPlaceBlock(nn.Module):
    """The first layer of the block writes into what the sum around it reads."""

    def __init__(self, right):
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.block = nn.Sequential(nn.Dropout(0.2, inplace=not right), nn.Linear(8, 8), nn.Tanh())

    def forward(self, x):
        x = self.fc(x)
        return x + self.block(x)


class InPlaceAfterSigmoid(nn.Module):
    """Sigmoid's gradient needs what dropout overwrites: the backward pass fails."""

    def __init__(self, right):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 64), nn.Linear(64, 4)
        self.drop = nn.Dropout(0.3, inplace=not right)

    def forward(self, x):
        return self.fc2(self.drop(torch.sigmoid(self.fc1(x))))


class InPlaceRight(nn.Module):
    """In place, on a tensor that nothing else needs, in the usual ways."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 4)
        self.drop = nn.Dropout(0.3, inplace=True)

    def forward(self, x):
        x = self.fc1(x)
        x = self.drop(x)
        y = self.fc1(x)
        F.dropout(y, 0.2, self.training, inplace=True)
        z = self.drop(y)
        return self.fc2(x + z)


class FusedAttention(nn.Module):
    """As timm's vision transformers have it: the module gives its p, and is called only where the
    fused function is not."""

    def __init__(self, dim=8, heads=2, attn_drop=0.3, proj_drop=0.1, fused=True):
        super().__init__()
        self.heads, self.fused_attn = heads, fused
        self.qkv, self.proj = nn.Linear(dim, dim * 3), nn.Linear(dim, dim)
        self.attn_drop, self.proj_drop = nn.Dropout(attn_drop), nn.Dropout(proj_drop)

    def forward(self, x):
        x = x[:, None].expand(-1, 6, -1)
        rows, n, width = x.shape
        qkv = self.qkv(x).reshape(rows, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused_attn:
            x = F.scaled_dot_product_attention(
                q,
                k,
                v,
                dropout_p=self.attn_drop.p if self.training else 0.0,
            )
        else:
            attn = (q @ k.transpose(-2, -1)).softmax(dim=-1)
            x = self.attn_drop(attn) @ v
        x = x.transpose(1, 2).reshape(rows, n, width)
        return self.proj_drop(self.proj(x))


class FusedByHelper(FusedAttention):
    """The same, by a function that is handed p."""

    def forward(self, x):
        q = self.qkv(x[:, None].expand(-1, 6, -1)).chunk(3, -1)
        return self.proj_drop(self.proj(_attend(*q, self.attn_drop.p, self.training)))


def _attend(q, k, v, p, training):
    options = {"dropout_p": p if training else 0.0}
    return F.scaled_dot_product_attention(q, k, v, **options)


class FusedByProperty(FusedAttention):
    @property
    def dropout_p(self):
        return getattr(self, "attn_drop").p if self.training else 0.0  # noqa: B009

    def forward(self, x):
        q = self.qkv(x[:, None].expand(-1, 6, -1)).chunk(3, -1)
        return self.proj_drop(self.proj(F.scaled_dot_product_attention(*q, None, self.dropout_p)))


class Teacher(nn.Module):
    """In evaluation for good beside the student: right where its weights are not trained either."""

    def __init__(self, right):
        super().__init__()
        self.teacher, self.student = (
            nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))
            for _ in range(2)
        )
        self.teacher.requires_grad_(not right)

    def train(self, mode=True):
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, x):
        return self.student(x) - self.teacher(x)


# name -> kind, site, what builds wrong and right, inputs.
PAIRS = {
    "a part in evaluation": ("never drops", "teacher.2", Teacher, vectors),
    "a statement": ("result thrown away", "drop", Thrown, vectors),
    "a name that is not read": ("result thrown away", "/dropout", ThrownCall, text),
    "a path by hand": ("result thrown away", "path", ThrownPath, vectors),
    "p set in evaluation": ("p lost after evaluation", "", EvalZeroes, vectors),
    "p of modules": ("p lost after evaluation", "net.2", EvalOfModules, vectors),
    "a switch": ("p lost after evaluation", "", EvalSwitch, vectors),
    "keep_prob": ("keep probability as p", "/dropout", KeepProb, vectors),
    "keep_prob of a layer": (
        "keep probability as p",
        "dropout",
        lambda right: (KeepProbLayerRight if right else KeepProbLayer)(),
        vectors,
    ),
    "an argument": (
        "unused argument",
        "",
        lambda right: (UsedArgument if right else UnusedArgument)(),
        vectors,
    ),
    "an attribute": (
        "unused argument",
        "",
        lambda right: (UnusedAttributeRight if right else UnusedAttribute)(False),
        vectors,
    ),
    "log_softmax": ("dropout on logits", "drop", Logits, vectors),
    "softmax": ("dropout on logits", "drop", lambda right: Logits(right, "softmax"), vectors),
    "a classifier": ("dropout on logits", "drop", Classifier, vectors),
    "cross_entropy": ("dropout on logits", "dropout", LogitsInLoss, text),
    "words": ("channels on another axis", "drop", Channels, text),
    "vectors": ("channels on another axis", "drop", ChannelsOfVectors, vectors),
    "states": ("channels on another axis", "drop", ChannelsOfStates, vectors),
    "keep_prob in a list": (
        "keep probability as p",
        "drops.0",
        lambda right: (KeepProbListRight if right else KeepProbList)(),
        vectors,
    ),
    "channels last": ("channels on another axis", "drop", ChannelsLast, pictures),
    "a residual": ("overwrites its input", "drop", InPlaceResidual, vectors),
    "a sum": ("overwrites its input", "/dropout", InPlaceSum, vectors),
    "a block": ("overwrites its input", "block.0", InPlaceBlock, vectors),
    "a gradient": ("overwrites its input", "", InPlaceAfterSigmoid, vectors),
}
RIGHT = {
    "kept for later": (KeptForLater, vectors),
    "a shared signature": (ByConfig, vectors),
    "a decorated constructor": (Decorated, vectors),
    "locals": (ByLocals, vectors),
    "attention": (Attended, text),
    "blocks of two kinds": (Blocks, vectors),
    "a convolutional net": (ConvNet, pictures),
    "in place": (InPlaceRight, vectors),
    "fused attention": (FusedAttention, vectors),
    "plain attention": (lambda: FusedAttention(fused=False), vectors),
    "fused by a helper": (FusedByHelper, vectors),
    "fused by a property": (FusedByProperty, vectors),
}

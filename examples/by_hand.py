"""A network by hand, trained on handwritten digits with dropout."""

import numpy as np
from sklearn.datasets import load_digits

from thinned import Address
from thinned.numpy import Adam, Dropout, Linear, ReLU, Sequential, batches, softmax_cross_entropy

x, labels = load_digits(return_X_y=True)
x = (x / 16).astype(np.float32)
test, train = np.split(next(batches(len(x), len(x), Address(site="split"))), [400])

network = Sequential(Linear(64, 256), ReLU(), Dropout(0.5), Linear(256, 10, "glorot"), seed=0)
optimizer = Adam(network, learning_rate=0.002)
for epoch in range(40):
    for rows in batches(len(train), 100, Address(site="shuffle", step=epoch)):
        scores = network.forward(x[train[rows]], training=True)
        loss, dy = softmax_cross_entropy(scores, labels[train[rows]])
        network.backward(dy)
        optimizer.step()

for name, part in {"train": train, "test": test}.items():
    predicted = network.forward(x[part], training=False).argmax(axis=1)
    print(f"{name} accuracy {(predicted == labels[part]).mean():.3f}")

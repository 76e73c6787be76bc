"""A plain simulation of deep linear networks, for tests of their theory."""

import numpy as np


def teacher_of(network):
    """The teacher, diagonal, shape (n_out, n_in)."""
    found = np.zeros((network.outputs, network.inputs))
    np.fill_diagonal(found, network.singular_values)
    return found


def layers_at_rest(network, replicas):
    """Weights of all layers where theory has them at rest, one hidden unit for each mode."""
    modes = len(network.singular_values)
    widths = [network.inputs, *[modes] * (network.layers - 1), network.outputs]
    found = []
    for values, columns, rows in zip(network.layer_values, widths[:-1], widths[1:], strict=True):
        weights = np.zeros((replicas, rows, columns))
        weights[:, range(modes), range(modes)] = values
        found.append(weights)
    return found


def product(layers):
    """W_L .. W_1."""
    found = layers[0]
    for weights in layers[1:]:
        found = weights @ found
    return found


def imbalance(layers):
    """Q of two layers."""
    first, second = layers
    return first @ first.swapaxes(1, 2) - second.swapaxes(1, 2) @ second


def noisy_batch(network, replicas, rng):
    """Inputs (replica, n_in, B) and label noise (replica, n_out, B) of a step."""
    inputs = rng.standard_normal((replicas, network.inputs, network.batch))
    noise = rng.standard_normal((replicas, network.outputs, network.batch))
    return inputs, network.noise * noise


def step(network, layers, teacher, inputs, noise):
    """Layers after one step of plain SGD on half the squared error."""
    activities = [inputs]
    for weights in layers:
        activities.append(weights @ activities[-1])
    flow = (network.rate / network.batch) * (activities[-1] - teacher @ inputs - noise)
    found = []
    for weights, activity in zip(layers[::-1], activities[-2::-1], strict=True):
        found.append(weights - flow @ activity.swapaxes(1, 2))
        flow = weights.swapaxes(1, 2) @ flow
    return found[::-1]


def simulate(network, layers, rng, *, burn_in=0, every=1, snapshots=1, measure=product):
    """Measurements of snapshots, shape (snapshot, replica, ..), and the layers after the last."""
    teacher, replicas, found = teacher_of(network), len(layers[0]), []
    for count in range(1, burn_in + every * (snapshots - 1) + 1):
        layers = step(network, layers, teacher, *noisy_batch(network, replicas, rng))
        if count >= burn_in and (count - burn_in) % every == 0:
            found.append(measure(layers))
    return np.array(found), layers

"""StepMix's decision in NumPy: the same arithmetic as src/exploration/paper-bounds.ts, vectorised over states, actions and
successors. Reads a state as JSON, then answers "run" (one candidate after another), "run batched" (all candidates of a step
at once) and "run matrices" (the same by products with dense transition matrices) with milliseconds and the lower bounds of
all candidates."""
import json
import sys
import time

import numpy as np

with open(sys.argv[1]) as file:
    state = json.load(file)
H, S, A = state["horizon"], state["states"], state["actions"]
rewards, baseline = np.array(state["rewards"]), np.array(state["baseline"])
initial = np.array(state["initial"])
delta, scale = state["delta"], state["bonusScale"]

rows = {}
for h, s, a, following, n in state["counts"]:
    rows.setdefault((h, s, a), []).append((following, n))
width = max(len(row) for row in rows.values())
successors = np.zeros((H, S, A, width), dtype=np.intp)
frequencies = np.zeros((H, S, A, width))
visits = np.zeros((H, S, A))
for key, row in rows.items():
    successors[key][: len(row)] = [following for following, _ in row]
    frequencies[key][: len(row)] = [n for _, n in row]
    visits[key] = sum(n for _, n in row)
frequencies /= visits[..., None]
# What depends on counts alone is computed once, as on the other side.
share, growth = np.log(3 * S * A * H / delta), np.log(8 * np.e * (visits + 1))
root = 3 * scale * np.sqrt((share + growth) / visits)
linear = scale * 14 * H**2 * (share + S * growth) / visits
everyone = np.arange(S)
# The same transitions with all the zeros: S=100 is small enough that a matrix product beats gathering 20 successors.
dense = np.zeros((H, S, A, S))
for key, row in rows.items():
    dense[key][[following for following, _ in row]] = [n / visits[key] for _, n in row]
dense = dense.reshape(H, S * A, S)


def back_up(h, upper, lower):
    """Bounds of all (s, a) at step h; upper and lower may have a leading axis of candidates."""
    values = upper[..., successors[h]]
    mean_upper = np.einsum("...k,...k->...", values, frequencies[h])
    mean_lower = np.einsum("...k,...k->...", lower[..., successors[h]], frequencies[h])
    values -= mean_upper[..., None]
    variance = np.einsum("...k,...k,...k->...", values, values, frequencies[h])
    bonus = root[h] * np.sqrt(variance) + linear[h] + (mean_upper - mean_lower) / H
    return (
        np.clip(rewards[h] + bonus + mean_upper, 0, H - h),
        np.clip(rewards[h] - bonus + mean_lower, 0, H - h),
    )


def back_up_dense(h, upper, lower):
    """The same by matrix products, of [state, candidate]; the variance is of differences from the least value."""
    least = upper.min(axis=0)
    differences = upper - least
    k = upper.shape[1]
    sums = dense[h] @ np.concatenate([differences, differences * differences, lower], axis=1)
    offset, squares, mean_lower = sums[:, :k], sums[:, k : 2 * k], sums[:, 2 * k :]
    mean_upper = offset + least
    variance = np.maximum(squares - offset * offset, 0)
    bonus = root[h].reshape(-1, 1) * np.sqrt(variance) + linear[h].reshape(-1, 1) + (mean_upper - mean_lower) / H
    reward = rewards[h].reshape(-1, 1)
    return np.clip(reward + bonus + mean_upper, 0, H - h), np.clip(reward - bonus + mean_lower, 0, H - h)


def by_matrices():
    upper, lower = np.zeros((H + 1, S)), np.zeros((H + 1, S))
    for h in range(H - 1, -1, -1):
        qu, ql = back_up_dense(h, upper[h + 1][:, None], lower[h + 1][:, None])
        qu, ql = qu.reshape(S, A), ql.reshape(S, A)
        best = qu.argmax(axis=1)
        upper[h], lower[h] = qu[everyone, best], ql[everyone, best]
    u, l = upper[H][:, None], lower[H][:, None]
    for h in range(H - 1, -1, -1):
        qu, ql = back_up_dense(h, u, l)
        u = np.einsum("sa,sak->sk", baseline[h], qu.reshape(S, A, -1))
        l = np.einsum("sa,sak->sk", baseline[h], ql.reshape(S, A, -1))
        u, l = np.concatenate([upper[h][:, None], u], axis=1), np.concatenate([lower[h][:, None], l], axis=1)
    return [float(x) for x in initial @ l]


def plan():
    upper, lower = np.zeros((H + 1, S)), np.zeros((H + 1, S))
    for h in range(H - 1, -1, -1):
        u, l = back_up(h, upper[h + 1], lower[h + 1])
        best = u.argmax(axis=1)
        upper[h], lower[h] = u[everyone, best], l[everyone, best]
    return upper, lower


def one_by_one():
    upper, lower = plan()
    bounds = []
    for h0 in range(H + 1):
        u, l = upper[h0], lower[h0]
        for h in range(h0 - 1, -1, -1):
            qu, ql = back_up(h, u, l)
            u, l = (baseline[h] * qu).sum(axis=1), (baseline[h] * ql).sum(axis=1)
        bounds.append(float(initial @ l))
    return bounds


def batched():
    upper, lower = plan()
    u, l = upper[H:], lower[H:]
    for h in range(H - 1, -1, -1):
        qu, ql = back_up(h, u, l)
        u, l = (baseline[h] * qu).sum(axis=2), (baseline[h] * ql).sum(axis=2)
        u, l = np.concatenate([upper[h : h + 1], u]), np.concatenate([lower[h : h + 1], l])
    return [float(x) for x in l @ initial]


print(json.dumps({"version": np.__version__}), flush=True)
for line in sys.stdin:
    run = {"run": one_by_one, "run batched": batched, "run matrices": by_matrices}[line.strip()]
    start = time.perf_counter()
    lower_bounds = run()
    print(json.dumps({"ms": (time.perf_counter() - start) * 1000, "lowerBounds": lower_bounds}), flush=True)

"""Against a slow reference in plain Python floats, written from the definition."""

from __future__ import annotations

import math

import pytest
import torch

from tests.policies.views import noise
from tokprof.policies.density_peaks import cluster_means, clustering_macs, density_peaks, distances


def reference(points: list[list[float]], clusters: int) -> tuple[list[int], list[int]]:
    """(centres, best first; each point's cluster)"""
    count, width = len(points), len(points[0])
    gap = [[math.dist(a, b) / math.sqrt(width) for b in points] for a in points]
    density = [math.exp(-sum(d * d for d in sorted(row)[:clusters]) / clusters) for row in gap]
    farthest = max(max(row) for row in gap)
    score = []
    for i in range(count):
        denser = [gap[i][j] for j in range(count) if (-density[j], j) < (-density[i], i)]
        score.append(density[i] * min(denser, default=farthest))
    centres = sorted(range(count), key=lambda i: (-score[i], i))[:clusters]
    cluster = [min(range(clusters), key=lambda c: (gap[i][centres[c]], c)) for i in range(count)]
    for own, centre in enumerate(centres):
        cluster[centre] = own
    return centres, cluster


@pytest.mark.parametrize(("count", "clusters"), [(1, 1), (5, 2), (12, 3), (40, 5), (7, 7)])
def test_agrees_with_the_reference(count: int, clusters: int) -> None:
    points = noise(3, count, 6, seed=count)
    centres, cluster = density_peaks(points, clusters)
    for sample in range(3):
        expected = reference(points[sample].double().tolist(), clusters)
        assert (centres[sample].tolist(), cluster[sample].tolist()) == expected


def test_two_heaps_and_their_middles() -> None:
    heaps = torch.tensor([[[0.0, 0.0], [0.1, 0.0], [-0.1, 0.0], [5.0, 5.0], [5.1, 5.0], [4.9, 5.0]]])
    centres, cluster = density_peaks(heaps, 2)
    assert sorted(centres[0].tolist()) == [0, 3]
    assert len(set(cluster[0, :3].tolist())) == 1 and len(set(cluster[0, 3:].tolist())) == 1
    means = cluster_means(heaps, cluster, 2)
    torch.testing.assert_close(means[0, cluster[0, 0]], torch.tensor([0.0, 0.0]))
    torch.testing.assert_close(means[0, cluster[0, 3]], torch.tensor([5.0, 5.0]))


def test_identical_points_are_resolved_by_index() -> None:
    centres, cluster = density_peaks(torch.ones(1, 6, 4), 2)
    assert centres.tolist() == [[0, 1]]
    assert cluster.tolist() == [[0, 1, 0, 0, 0, 0]]


def test_every_cluster_has_its_centre() -> None:
    points = noise(2, 30, 4)
    centres, cluster = density_peaks(points, 6)
    assert torch.equal(cluster.gather(1, centres), torch.arange(6).expand(2, -1))
    assert cluster_means(points, cluster, 6).isfinite().all()


def test_distances_far_from_the_origin() -> None:
    points = noise(1, 9, 8) + 300.0
    expected = torch.cdist(points.double(), points.double()) / math.sqrt(8)
    torch.testing.assert_close(distances(points).double(), expected, rtol=1e-4, atol=1e-3)


def test_work_is_the_two_products() -> None:
    assert clustering_macs(29, 3, 64) == 29 * 29 * 64 + 3 * 29 * 64

"""Clustering by density peaks among k nearest neighbours (DPC-kNN), batched and deterministic."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def density_peaks(points: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Centres (batch, clusters), best first, and each point's cluster (batch, points).

    Density: exp(−mean squared distance to the `clusters` nearest points, itself among them), distance
    in units of √width. A centre is dense and far from any denser point. Equal densities count as
    falling with the index, in place of the random noise that SparseVLM's code adds.
    """
    import torch

    distance = distances(points)  # (batch, points, points)
    nearest = distance.topk(clusters, dim=-1, largest=False).values
    density = (-nearest.square().mean(dim=-1)).exp()  # (batch, points)
    order = torch.arange(density.shape[-1], device=density.device)
    denser = density[:, None, :] > density[:, :, None]
    denser |= (density[:, None, :] == density[:, :, None]) & (order[None, :] < order[:, None])
    farthest = distance.flatten(1).max(dim=-1).values[:, None, None]
    to_denser = torch.where(denser, distance, farthest).min(dim=-1).values
    ranked = (density * to_denser).sort(dim=-1, descending=True, stable=True).indices
    centres = ranked[:, :clusters]
    to_centres = distance.gather(2, centres[:, None].expand(-1, distance.shape[1], -1))
    cluster = to_centres.sort(dim=-1, stable=True).indices[..., 0]
    own = torch.arange(clusters, device=points.device).expand_as(centres)
    return centres, cluster.scatter(1, centres, own)


def distances(points: Tensor) -> Tensor:
    """Euclidean distances in units of √width, fp32, by one matrix product of the centred points."""
    points = points.float() - points.float().mean(dim=1, keepdim=True)
    products = points @ points.transpose(1, 2)
    squares = products.diagonal(dim1=1, dim2=2)
    between = squares[:, :, None] + squares[:, None, :] - 2 * products
    return (between.clamp(min=0) / points.shape[-1]).sqrt()


def cluster_means(points: Tensor, cluster: Tensor, clusters: int) -> Tensor:
    """Plain mean of each cluster's points: (batch, clusters, width), fp32; a product with a 0/1 matrix."""
    import torch

    members = cluster[:, None] == torch.arange(clusters, device=points.device)[None, :, None]
    weights = members.float() / members.sum(dim=-1, keepdim=True)
    return weights @ points.float()


def clustering_macs(points: int, clusters: int, width: int) -> int:
    """Work of `density_peaks` and `cluster_means`: pairwise products, and the sums."""
    return points * (points + clusters) * width

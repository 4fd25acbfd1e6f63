"""WarpGAN's warp in plain PyTorch: a thin-plate spline by torch.linalg.solve, all pairs of pixels
and points in one matrix, and grid_sample."""

import torch


def warp(image, points, displacements, regularization: float):
    """image [B, C, H, W], the rest [B, N, 2] as (y, x) in pixels: the warped image."""
    height, width = image.shape[2:]
    goal = points + displacements
    batch, count, _ = goal.shape
    like = dict(dtype=goal.dtype, device=goal.device)
    rows, columns = (torch.arange(n, **like) for n in (height, width))
    query = torch.cartesian_prod(rows, columns).expand(batch, -1, 2)

    def affine(p):
        return torch.cat((p, torch.ones_like(p[..., :1])), 2)

    def phi(a, b):
        square = sum((a[:, :, None, axis] - b[:, None, :, axis]) ** 2 for axis in (0, 1))
        return 0.5 * square * torch.log(square.clamp_min(1e-10))

    eye = torch.eye(count, **like)
    top = torch.cat((phi(goal, goal) + regularization * eye, affine(goal)), 2)
    bottom = torch.cat((affine(goal).mT, goal.new_zeros(batch, 3, 3)), 2)
    right = torch.cat((displacements, goal.new_zeros(batch, 3, 2)), 1)
    weights = torch.linalg.solve(torch.cat((top, bottom), 1), right)
    flow = phi(query, goal) @ weights[:, :count] + affine(query) @ weights[:, count:]
    at = (query - flow).flip(2).reshape(batch, height, width, 2)
    grid = 2 * at / goal.new_tensor((width - 1, height - 1)) - 1
    return torch.nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=True)

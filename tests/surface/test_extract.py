"""Level sets of analytic fields against dense evaluation and closed forms, and what is made of them."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from skimage.measure import marching_cubes

from phase_recon.model.base import value_and_gradient
from phase_recon.surface import sparse_grid
from phase_recon.surface.extract import check_within, extract_surface
from phase_recon.surface.refine import refine
from phase_recon.surface.surface import Surface, carry_colours, renumbered, transform
from phase_recon.utils import memory
from phase_recon.utils.arrays import unit
from phase_recon.utils.errors import UserError

LOWER, UPPER = np.full(3, -1.0), np.full(3, 1.0)


def test_numbers_are_renumbered_as_numpy_does_it():
    numbers = np.random.default_rng(0).integers(0, 90, (40, 3))
    for found, wanted in zip(renumbered(numbers, 100), np.unique(numbers, return_inverse=True), strict=True):
        np.testing.assert_array_equal(found, wanted.reshape(found.shape))


def ball(radius, centre=(0.0, 0.0, 0.0)):
    return lambda x: torch.linalg.vector_norm(x - torch.tensor(centre)[: x.shape[-1]], dim=-1) - radius


def torus(x):
    x = x - torch.tensor((0.0013, 0.0021, 0.0034))  # off the grid points: no value is at the level
    return torch.hypot(torch.hypot(x[:, 0], x[:, 1]) - 0.6, x[:, 2]) - 0.2


def box(half):
    def field(x):
        q = x.abs() - torch.tensor(half)
        return torch.linalg.vector_norm(q.clamp(min=0), dim=-1) + q.amax(dim=-1).clamp(max=0)

    return field


def union(*fields):
    return lambda x: torch.stack([field(x) for field in fields]).amin(dim=0)


def many_balls(x):
    centres = torch.tensor(np.random.default_rng(1).uniform(-0.85, 0.85, (60, 3)), dtype=torch.float32)
    return torch.cdist(x, centres).amin(dim=1) - 0.0371


def rod_saturated(x):
    """A ball with a thin rod, as a step of width 0.01: flat away from the surface, no distance at all."""
    rod = torch.maximum(torch.hypot(x[:, 1] - 0.013, x[:, 2] - 0.017) - 0.0303, x[:, 0].abs() - 0.8313)
    return torch.tanh(union(ball(0.3017), lambda y: rod)(x) / 0.01)


def uneven(x):
    """A ball whose field grows eight times faster on one side than on the other."""
    return ball(0.71)(x) * (0.5 + 3.5 * torch.sigmoid(20 * x[:, 0]))


FIELDS = {
    "sphere": ball(0.8, (0.01, 0.02, 0.03)),
    "torus": torus,
    "thin plate": box((0.7071, 0.7037, 0.0131)),
    "two spheres": union(ball(0.3012, (-0.503, 0.0, 0.0)), ball(0.2013, (0.5, 0.1, 0.2))),
    "many small spheres": many_balls,
    "saturated rod": rod_saturated,
    "uneven": uneven,
}


def dense(field, resolution):
    """Marching cubes over every point of the grid."""
    ticks = np.linspace(-1, 1, resolution + 1)
    points = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    values = field(torch.from_numpy(points.astype(np.float32))).numpy().reshape((resolution + 1,) * 3)
    vertices, cells, _, _ = marching_cubes(values, 0.0)
    return vertices * (2 / resolution) - 1, cells


def canonical(cells):
    """Triangles turned to start at their smallest vertex, in order."""
    turn = cells.argmin(axis=1)
    turned = np.take_along_axis(cells, (turn[:, None] + np.arange(3)) % 3, axis=1)
    return turned[np.lexsort(turned.T[::-1])]


@pytest.mark.parametrize("name", FIELDS)
def test_sparse_equals_dense(name):
    resolution = 100  # not a multiple of a block
    surface = extract_surface(FIELDS[name], LOWER, UPPER, resolution)
    vertices, cells = dense(FIELDS[name], resolution)
    assert len(surface.vertices) == len(vertices)
    gap, match = cKDTree(vertices).query(surface.vertices)
    assert gap.max() < 2e-3 * 2 / resolution  # cells; vertices keep clear of grid points
    assert len(np.unique(match)) == len(vertices)
    np.testing.assert_array_equal(canonical(match[surface.cells]), canonical(cells))
    assert surface.is_closed()


def test_box_sides_and_resolution():
    field = ball(0.3, (0.5, 1.0, 1.5))
    surface = extract_surface(field, [0.0, 0.0, 0.0], [1.0, 2.03, 3.0], 60)  # cell 0.05
    assert surface.is_closed()
    np.testing.assert_allclose(np.linalg.norm(surface.vertices - [0.5, 1.0, 1.5], axis=1), 0.3, atol=2e-3)
    finer = extract_surface(field, [0.0, 0.0, 0.0], [1.0, 2.03, 3.0], 60, grid_axis="shortest")
    assert len(finer.cells) == pytest.approx(9 * len(surface.cells), rel=0.05)


def test_slabs_join_exactly(monkeypatch):
    field = union(torus, ball(0.15))
    whole = extract_surface(field, LOWER, UPPER, 64)
    monkeypatch.setattr(sparse_grid, "SLAB_VOXELS", 4 * 65**2)  # one layer of blocks at a time
    monkeypatch.setattr(sparse_grid, "CHUNK", 1000)
    monkeypatch.setattr(sparse_grid, "CHUNK_BLOCKS", 100)
    slabs = extract_surface(field, LOWER, UPPER, 64)
    np.testing.assert_array_equal(slabs.vertices, whole.vertices)
    np.testing.assert_array_equal(canonical(slabs.cells), canonical(whole.cells))
    assert len(np.unique(slabs.vertices, axis=0)) == len(slabs.vertices)


def test_the_surface_is_followed_where_the_bound_fails(monkeypatch):
    whole = extract_surface(torus, LOWER, UPPER, 64)
    monkeypatch.setattr(sparse_grid, "SAFETY", 0.2)  # few blocks are found by their bound
    np.testing.assert_array_equal(extract_surface(torus, LOWER, UPPER, 64).vertices, whole.vertices)


def test_sphere_at_512_needs_few_evaluations():
    seen = 0

    def counted(x):
        nonlocal seen
        seen += len(x)
        return ball(0.7)(x)

    lines = []
    surface = extract_surface(counted, LOWER, UPPER, 512, announce=lines.append)
    assert seen < 0.03 * 513**3
    grid = seen - sparse_grid.CHUNK // 8 - 1  # less those that tell how fast the field is, and the first
    assert re.match(r"that is about 3 million evaluations, \d+ s, and 0\.6 GiB of memory$", lines[1])
    assert lines[2:] == [f"evaluated {grid:,} times, {grid / 513**3:.1%} of the {513**3:,} grid points"]
    assert 2.5e6 < grid < 3.5e6  # as announced
    assert surface.is_closed()
    assert surface.euler_characteristic() == 2
    # a chord of length h sags by h²/8 below a unit circle; single precision adds 1e-7
    radii = np.linalg.norm(surface.vertices, axis=1)
    assert np.abs(radii - 0.7).max() < 3 * (2 / 512) ** 2 / 8 / 0.7 + 2e-7
    assert surface.measure() == pytest.approx(4 * math.pi * 0.49, rel=1e-4)


def test_topology_and_orientation():
    surface = extract_surface(union(torus, ball(0.2, (0.0, 0.0, 0.7))), LOWER, UPPER, 80)
    count, labels = surface.components()
    assert (count, surface.euler_characteristic(), surface.genus()) == (2, 2, 1)
    assert labels.shape == (len(surface.cells),)
    volume = np.einsum("fd,fd->", surface.cell_vectors(), surface.vertices[surface.cells].mean(axis=1)) / 3
    assert volume == pytest.approx(2 * math.pi**2 * 0.6 * 0.04 + 4 / 3 * math.pi * 0.008, rel=0.01)


def test_open_mesh_has_no_genus():
    triangle = Surface(np.eye(3), np.array([[0, 1, 2]]))
    assert not triangle.is_closed()
    assert triangle.euler_characteristic() == 1
    with pytest.raises(ValueError, match="closed meshes only"):
        triangle.genus()


def test_values_at_the_level_make_no_degenerate_triangles():
    surface = extract_surface(box((0.5, 0.5, 0.5)), LOWER, UPPER, 16)  # faces on grid planes
    assert surface.is_closed()
    assert surface.genus() == 0
    assert surface.cell_measures().min() > 0
    np.testing.assert_allclose(np.abs(surface.vertices).max(axis=1), 0.5, atol=1.1e-3 / 8)  # a thousandth of a cell


def test_level_shifts_the_surface():
    surface = extract_surface(ball(0.5), LOWER, UPPER, 64, level=0.2)
    np.testing.assert_allclose(np.linalg.norm(surface.vertices, axis=1), 0.7, atol=1e-3)


def test_circle_and_ring_in_2d():
    ring = extract_surface(lambda x: (ball(0.6)(x)).abs() - 0.2, LOWER[:2], UPPER[:2], 200)
    assert ring.is_closed()
    assert ring.components()[0] == 2
    assert ring.euler_characteristic() == 0
    assert ring.measure() == pytest.approx(2 * math.pi * (0.8 + 0.4), rel=1e-3)
    middles = ring.vertices[ring.cells].mean(axis=1)
    outward = np.einsum("fd,fd->f", ring.cell_normals(), middles / np.linalg.norm(middles, axis=1)[:, None])
    assert (outward[np.linalg.norm(middles, axis=1) > 0.6] > 0.99).all()
    assert (outward[np.linalg.norm(middles, axis=1) < 0.6] < -0.99).all()


def test_square_on_grid_lines_in_2d():
    square = extract_surface(box((0.5, 0.5)), LOWER[:2], UPPER[:2], 16)
    assert square.is_closed()
    assert square.cell_measures().min() > 0
    np.testing.assert_allclose(np.abs(square.vertices).max(axis=1), 0.5, atol=1.1e-3 / 8)


@pytest.mark.parametrize("d", [2, 3])
def test_errors_name_what_is_wrong(d):
    low, high = LOWER[:d], UPPER[:d]
    with pytest.raises(
        UserError, match=r"positive everywhere in the box: no level set to mesh; train longer"
    ):
        extract_surface(lambda x: x.square().sum(dim=-1) + 1, low, high, 32)
    with pytest.raises(UserError, match="negative everywhere"):
        extract_surface(lambda x: -x.square().sum(dim=-1) - 1, low, high, 32)
    with pytest.raises(UserError, match=r"^the field is not finite at \d+ of \d+ grid points: .* diverged"):
        extract_surface(lambda x: torch.where(x[:, 0] > 0.5, torch.nan, ball(0.5)(x)), low, high, 32)
    with pytest.raises(
        UserError, match=r"leaves the box at its upper x, lower y side: train again with a larger Ω, .*\.bounding_b"
    ):
        extract_surface(ball(0.5, (0.7, -0.7, 0.0)), low, high, 32)


@pytest.mark.parametrize("d", [2, 3])
def test_a_surface_that_leaves_its_box_is_told_from_a_closed_one(d):
    low, high = LOWER[:d], UPPER[:d]
    check_within(extract_surface(ball(0.5), low, high, 32), low, high)
    surface = extract_surface(ball(0.5, (0.7, -0.7, 0.0)), low, high, 32, allow_open=True)
    with pytest.raises(UserError, match=r"^the surface leaves the box at its upper x, lower y side: train again"):
        check_within(surface, low, high)


def test_an_edge_of_four_faces_is_no_way_out():
    """Two tetrahedra that share the edge from 0 to 1."""
    corners = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 1, 0], [-1, 0, 0], [-1, -1, 0]], dtype=float) / 4
    one = np.array([[0, 2, 1], [0, 3, 2], [0, 1, 3], [1, 2, 3]])
    other = np.where(one > 1, one + 2, one)
    surface = Surface(corners, np.concatenate([one, other]))
    assert not surface.is_closed()
    check_within(surface, LOWER, UPPER)


@pytest.mark.parametrize("d", [2, 3])
def test_open_surface_on_request(d):
    surface = extract_surface(lambda x: x[:, 0] - 0.33, LOWER[:d], UPPER[:d], 20, allow_open=True)
    assert not surface.is_closed()
    assert surface.measure() == pytest.approx(2 ** (d - 1), rel=1e-6)
    np.testing.assert_allclose(surface.vertices[:, 0], 0.33, atol=1e-6)
    np.testing.assert_allclose(surface.cell_normals()[:, 0], 1.0, atol=1e-6)


def test_transform_and_colours():
    surface = Surface(np.eye(3), np.array([[0, 1, 2]]))
    moved = transform(surface, 2.0, np.array([10.0, 20.0, 30.0]))
    np.testing.assert_array_equal(moved.vertices[1], [10, 22, 30])
    cloud = np.array([[0.9, 0, 0], [0, 0.9, 0], [0, 0, 0.9]])
    coloured = carry_colours(surface, cloud, np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], dtype=np.uint8))
    np.testing.assert_array_equal(coloured.colours, [[1, 2, 3], [4, 5, 6], [7, 8, 9]])


def full_surface(d):
    """A small sphere or circle with normals and colours."""
    surface = extract_surface(ball(0.7), LOWER[:d], UPPER[:d], 10)
    surface = replace(surface, normals=unit(surface.vertices))
    return carry_colours(
        surface, surface.vertices, (np.abs(surface.normals) @ np.eye(d, 3) * 255).astype(np.uint8)
    )


def octahedron(x):
    """The L1 ball through grid points, but for rounding."""
    return x.abs().sum(dim=-1) - 0.5 - 1e-6


NEARLY_ON_NODES = {"octahedron": octahedron, "cube": box((0.5, 0.5, 0.5)), "torus": torus, "balls": many_balls}


@pytest.mark.parametrize("name", NEARLY_ON_NODES)
def test_no_edge_is_short_and_no_face_degenerate(name):
    field = NEARLY_ON_NODES[name]
    resolution = 64
    for surface in (
        coarse := extract_surface(field, LOWER, UPPER, resolution),
        refine(coarse, lambda x: tuple(part.detach() for part in value_and_gradient(field, x))),
    ):
        corners = surface.vertices[surface.cells] * (resolution / 2)  # in cells
        edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
        assert edges.min() > 1e-4
        height = 2 * surface.cell_measures() * (resolution / 2) ** 2 / edges.max(axis=1)
        assert height.min() > 1e-4
        assert len(np.unique(np.sort(surface.cells, axis=1), axis=0)) == len(surface.cells)


def test_a_grid_that_the_memory_cannot_hold_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 10**6)
    with pytest.raises(UserError, match=r"a grid of 256 × 256 × 256 cells .* choose a coarser plot\.resolution, or"):
        extract_surface(ball(0.6), LOWER, UPPER, 256)

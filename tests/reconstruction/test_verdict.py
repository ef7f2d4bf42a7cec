"""What a user is told of a surface."""

from phase_recon.reconstruction.verdict import verdict


def said(share, missed=0.0, components=1, largest=1.0, genus=0, points=5000):
    metrics = {
        "components": components, "largest_component": largest, "closed": True, "genus": genus, "resolution": 256,
        "input": {
            "cloud_to_surface_mean": 0.1, "cloud_to_surface_max": 0.2, "far": 3.14159, "cloud_far_share": missed,
            "surface_far_share": share,
        },
    }  # fmt: skip
    return verdict(metrics, points)[1:]


def test_what_is_said():
    assert said(0.0) == []
    assert said(0.0, missed=0.048) == [
        "note: 4.8% of the points are farther than 3.1 from the surface: outliers, noise, or a part of the surface "
        "is missing"
    ]
    assert said(0.0, missed=0.2)[0].startswith("warning: 20.0% of the points are farther")
    assert said(0.0, components=3, largest=0.5) == []
    assert said(0.0, components=3, largest=0.987) == [
        "note: one of the components is 98.7% of the surface: if the others came off at thin edges, the same command "
        "with --eval and a finer grid may join them (--resolution 512); --eval --set plot.keep_components=1 leaves "
        "them out"
    ]
    assert said(0.0, genus=54) == []  # a perforated sheet
    assert said(0.0, genus=1077, points=20_000) == [
        "warning: 1077 handles are more than 20000 points show: where noise is as wide as the points are apart, or "
        "normals are wrong, a surface looks like a sponge"
    ]
    assert said(0.06) == ["6% of the surface is farther than 3.1 from all points, and so a guess"]
    assert said(0.35) == [
        "warning: 35% of the surface is farther than 3.1 from all points, and so a guess; if the cloud is open, as "
        "terrain, a room or a single view is, the same command with --eval --trim open cuts that off, and training "
        "with --sensor=X,Y,Z mends sides that are wrong"
    ]

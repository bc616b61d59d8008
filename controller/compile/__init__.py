"""World → compile → Snapshot → slice: the pure middle of the control plane.

    readings = [from_kubernetes(kind, obj) for each watched object]     read.py
    world = World.of(readings, trust_domain=…, cluster_domain=…)        world.py
    snapshot = compile(world, previous_snapshot)                        compiler.py
    resources = slice_for(snapshot, "ns/pod", subscribed_keys)          slicing.py
    changed, removed = diff(resources_sent_before, resources)           slicing.py

Nothing here does input or output, knows a clock, or logs: what there is to say is a Finding.
"""

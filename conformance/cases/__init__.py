"""The cases: `cases/<group>/<stem>.py` beside `<stem>.yaml`, one behaviour per pair of files.

How to write one
================
The `.py` file defines `CASE = Case(...)` and imports only `conformance.case`, `.driver`, `.expect`,
`.observe` (never another case). Case.name is the stem with `-` for `_`. Copy
`split/weights_half.py` (a count), `access/deny_by_default.py` (a refusal) or
`split/matches_header.py` (A/B). Nothing is registered: files are found by listing the folder.

What is there when a case begins (never change or delete it, leave nothing behind that was not made
through the `Mesh`; what was made through it is removed for you):

| workload   | account  | what |
|------------|----------|------|
| `client`   | client   | caller in the mesh (Service `client` too) |
| `other`    | other    | a second caller, another account |
| `outsider` | outsider | caller without a sidecar (plain text) |
| `visitor`  | client   | caller in the namespace `mesh.second`; same account *name* as `client` |
| `alpha`, `beta`, `gamma` | the same | servers; HTTP 8080, TCP 8090, UDP 8070, on pods and Services |

All are echo applications: HTTP answers carry the server's name, TCP answers `NAME line`. Services:
one of each name with the three ports (`http` 8080, `tcp` 8090, `udp` 8070/UDP), and `web`, which
selects all three servers and is the root that split cases split. Additional Services are cheap: put
them into the YAML (selector `app: alpha`). Additional pods (`mesh.deploy`) cost a second each: only
where needed.

`access="open"` (default): standing TrafficTargets allow client, other and visitor everything at
alpha, beta and gamma (and at workloads of `mesh.deploy` in the case's namespace).
`access="closed"`: no TrafficTarget exists.

The `.yaml` holds SMI objects (and Services) without a namespace: the case's own is filled in. A document
`step: NAME` begins the objects of `mesh.apply("NAME")`; objects before the first one are `mesh.apply()`.
Placeholders: `${namespace}`, `${second}`, `${image}`, and any keyword given to `apply`.

Waiting: what must *become* true is a `converge`/`becomes_…`; for what must *stay* as it was, `await
mesh.settle()` first, then look once. No sleeps, no retries of counts. Versions other than the newest are
written in the YAML's apiVersion. A second step usually re-applies the object with the same name.

Requirements are told in our words (`SpecRef.requirement`), never quoted. Level: CORE for a MUST,
EXTENDED for what the text describes but a mesh may lack, IMPLEMENTATION when only an S-rule decides.
"""

"""Who may do what, and how the server finds out who asks."""

from __future__ import annotations

import base64
import json
from typing import Any

from localmesh.apiserver.server import ApiServer

from .conftest import Client

PODS = "/api/v1/namespaces/default/pods"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


async def account(call: Client, name: str) -> str:
    """A service account; returns a token for it."""
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    assert (await call("POST", accounts, {"metadata": {"name": name}})).status == 201
    answer = await call("POST", f"{accounts}/{name}/token", {"spec": {"expirationSeconds": 600}})
    assert answer.status == 201, answer.text
    return str(answer.body["status"]["token"])


async def may_read_pods(call: Client, name: str) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]
    path = f"{RBAC}/namespaces/default"
    await call("POST", f"{path}/roles", {"metadata": {"name": name}, "rules": rules})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"kind": "Role", "name": name, "apiGroup": "rbac.authorization.k8s.io"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
    }
    answer = await call("POST", f"{path}/rolebindings", binding)
    assert answer.status == 201, answer.text


async def test_nobody_sees_health_and_version_only(anonymous: Client) -> None:
    assert (await anonymous("GET", "/readyz")).text == "ok"
    assert (await anonymous("GET", "/version")).body["gitVersion"].startswith("v1.36")
    refused = await anonymous("GET", PODS)
    assert refused.status == 403
    assert refused.body["message"] == (
        'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the '
        'namespace "default"'
    )
    assert (await anonymous("GET", "/apis")).status == 403


async def test_tokens_are_bound_by_rbac(call: Client, anonymous: Client) -> None:
    token = await account(call, "reader")
    anonymous.headers["Authorization"] = f"Bearer {token}"
    assert (await anonymous("GET", "/apis")).status == 200
    assert (await anonymous("GET", PODS)).status == 403
    await may_read_pods(call, "reader")
    assert (await anonymous("GET", PODS)).status == 200
    assert (await anonymous("GET", "/api/v1/namespaces/kube-system/pods")).status == 403
    assert (await anonymous("DELETE", f"{PODS}/p")).status == 403
    await call("DELETE", f"{RBAC}/namespaces/default/rolebindings/reader")
    assert (await anonymous("GET", PODS)).status == 403


async def test_a_token_ends_with_its_account(call: Client, anonymous: Client) -> None:
    anonymous.headers["Authorization"] = f"Bearer {await account(call, 'gone')}"
    assert (await anonymous("GET", "/apis")).status == 200
    await call("DELETE", "/api/v1/namespaces/default/serviceaccounts/gone")
    assert (await anonymous("GET", "/apis")).status == 401


async def test_a_tampered_token_is_refused(call: Client, anonymous: Client) -> None:
    head, body, signature = (await account(call, "a")).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["sub"] = "system:serviceaccount:kube-system:admin"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    for token in (f"{head}.{forged}.{signature}", f"{head}.{body}.AAAA", "nonsense", f"{head}.{body}."):
        anonymous.headers["Authorization"] = f"Bearer {token}"
        assert (await anonymous("GET", "/version")).status == 401


async def test_token_review_tells_the_pod(server: ApiServer, call: Client) -> None:
    await call("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "web"}})
    pod: Any = {
        "metadata": {"name": "web-1"},
        "spec": {"serviceAccountName": "web", "containers": [{"name": "c", "image": "sh"}]},
    }
    made = (await call("POST", PODS, pod)).body
    uid = made["metadata"]["uid"]
    token = server.issue_token("default", "web", "smi-mesh-ca", 3600, ("web-1", uid))
    review = {"spec": {"token": token, "audiences": ["smi-mesh-ca"]}}
    status = (await call("POST", REVIEWS, review)).body["status"]
    assert status["authenticated"] is True
    assert status["audiences"] == ["smi-mesh-ca"]
    assert status["user"]["username"] == "system:serviceaccount:default:web"
    extra = status["user"]["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["web-1"]
    assert extra["authentication.kubernetes.io/pod-uid"] == [uid]
    other = (await call("POST", REVIEWS, {"spec": {"token": token}})).body["status"]
    assert other.get("authenticated") is None
    assert "audiences" in other["error"]
    await call("DELETE", f"{PODS}/web-1")
    assert "pod" in (await call("POST", REVIEWS, review)).body["status"]["error"]


async def test_access_reviews(call: Client, anonymous: Client) -> None:
    path = "/apis/authorization.k8s.io/v1"
    ask = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}}
    assert (await call("POST", f"{path}/selfsubjectaccessreviews", ask)).body["status"]["allowed"] is True
    anonymous.headers["Authorization"] = f"Bearer {await account(call, 'reader')}"
    mine = await anonymous("POST", f"{path}/selfsubjectaccessreviews", ask)
    assert mine.body["status"]["allowed"] is False
    await may_read_pods(call, "reader")
    ask["spec"]["user"] = "system:serviceaccount:default:reader"  # type: ignore[assignment]  # a test's dict
    theirs = await call("POST", f"{path}/subjectaccessreviews", ask)
    assert theirs.body["status"]["allowed"] is True
    who = await anonymous("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
    assert who.body["status"]["userInfo"]["username"] == "system:serviceaccount:default:reader"


async def test_impersonation_needs_leave(call: Client, anonymous: Client) -> None:
    as_nobody = await call("GET", PODS, **{"Impersonate-User": "jane"})
    assert as_nobody.status == 403
    assert 'User "jane"' in as_nobody.body["message"]
    anonymous.headers["Authorization"] = f"Bearer {await account(call, 'reader')}"
    refused = await anonymous("GET", PODS, **{"Impersonate-User": "kubernetes-admin"})
    assert "impersonate" in refused.body["message"]


async def test_secrets_of_the_state_directory_are_private(server: ApiServer) -> None:
    for path in [server.kubeconfig_path, *(server.settings.state_dir / "pki").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path

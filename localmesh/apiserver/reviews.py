"""Questions clients put as POSTs: who is this token, who am I, may they do that. Nothing is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from localmesh.apiserver.builtin import REVIEWS
from localmesh.apiserver.call import Target, User
from localmesh.apiserver.errors import ApiError, bad_request, invalid, invalid_value, not_found
from localmesh.apiserver.jsonvalue import JsonObject, child, lookup
from localmesh.apiserver.metadata import now_text
from localmesh.apiserver.rbac import Attributes, Authorizer
from localmesh.apiserver.store import Key, Store
from localmesh.apiserver.tokens import (
    DEFAULT_SECONDS,
    MAX_SECONDS,
    MIN_SECONDS,
    Bound,
    TokenAuthority,
    TokenError,
)

Answer = Callable[[Target, JsonObject, User], Awaitable[JsonObject]]


@dataclass(frozen=True, slots=True)
class Reviews:
    store: Store
    authorizer: Authorizer
    tokens: TokenAuthority

    kinds = frozenset(resource.key for resource in REVIEWS)
    """Keys of the resources answered here."""

    async def create(self, target: Target, body: JsonObject, user: User) -> JsonObject:
        """The review with its status filled in."""
        answer = {
            "TokenReview": self._token_review,
            "SelfSubjectReview": self._who_am_i,
            "SubjectAccessReview": self._access_review,
            "LocalSubjectAccessReview": self._access_review,
            "SelfSubjectAccessReview": self._self_access_review,
            "SelfSubjectRulesReview": self._rules_review,
        }[target.resource.kind]
        status = answer(target, child(body, "spec"), user)
        return {
            "kind": target.resource.kind,
            "apiVersion": target.resource.api_version(target.version),
            "metadata": {"creationTimestamp": None},
            **({"spec": body.get("spec") or {}} if target.resource.kind != "SelfSubjectReview" else {}),
            "status": status,
        }

    def _token_review(self, _target: Target, spec: JsonObject, _user: User) -> JsonObject:
        token = spec.get("token")
        if not isinstance(token, str) or not token:
            raise bad_request("TokenReview: spec.token is required")
        try:
            verified = self.tokens.verify(token, tuple(spec.get("audiences") or ()))
        except TokenError as error:
            return {"user": {}, "error": f"invalid bearer token, {error}"}
        user = verified.user.as_json()
        return {"authenticated": True, "user": user, "audiences": list(verified.audiences)}

    def _who_am_i(self, _target: Target, _spec: JsonObject, user: User) -> JsonObject:
        return {"userInfo": user.as_json()}

    def _access_review(self, target: Target, spec: JsonObject, _user: User) -> JsonObject:
        extra = {key: tuple(values) for key, values in (spec.get("extra") or {}).items()}
        asked = User(spec.get("user") or "", spec.get("uid") or "", tuple(spec.get("groups") or ()), extra)
        return self._decide(asked, spec, target.namespace)

    def _self_access_review(self, _target: Target, spec: JsonObject, user: User) -> JsonObject:
        return self._decide(user, spec, "")

    def _decide(self, user: User, spec: JsonObject, namespace: str) -> JsonObject:
        resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
        if resource:
            attributes = Attributes(
                resource.get("verb", ""),
                resource.get("group", ""),
                resource.get("resource", ""),
                resource.get("subresource", ""),
                resource.get("name", ""),
                resource.get("namespace", "") or namespace,
            )
        elif path:
            attributes = Attributes(path.get("verb", ""), path=path.get("path", ""))
        else:
            raise bad_request("exactly one of resourceAttributes and nonResourceAttributes must be set")
        decision = self.authorizer.decide(user, attributes)
        return {"allowed": decision.allowed, **({"reason": decision.reason} if decision.reason else {})}

    def _rules_review(self, _target: Target, spec: JsonObject, user: User) -> JsonObject:
        resources: list[JsonObject] = []
        paths: list[JsonObject] = []
        for rule in self.authorizer.rules_for(user, spec.get("namespace", "")):
            (paths if rule.get("nonResourceURLs") else resources).append(rule)
        return {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}

    async def token_request(self, target: Target, body: JsonObject) -> JsonObject:
        """POST serviceaccounts/{name}/token: a TokenRequest with its token."""
        spec = child(body, "spec")
        seconds = spec.get("expirationSeconds") or DEFAULT_SECONDS
        if not MIN_SECONDS <= seconds <= MAX_SECONDS * 365:
            why = f"may not specify a duration less than {MIN_SECONDS} seconds"
            cause = invalid_value("spec.expirationSeconds", str(seconds), why)
            raise invalid("TokenRequest", "authentication.k8s.io", "", [cause])
        seconds = min(seconds, MAX_SECONDS)
        pod = self._bound_pod(target.namespace, target.name, spec.get("boundObjectRef"))
        audiences = tuple(spec.get("audiences") or ())
        bound = self.bind(target.namespace, target.name, pod)
        token, expires = self.tokens.issue(bound, audiences, seconds)
        stamp = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": target.name, "namespace": target.namespace, "creationTimestamp": now_text()},
            "spec": {**spec, "expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": stamp},
        }

    def bind(self, namespace: str, account: str, pod: tuple[str, str] | None) -> Bound:
        """What a token for a service account speaks for; ApiError 404 when the account is missing."""
        item = self.store.get("serviceaccounts", Key(namespace, account))
        if item is None:
            raise not_found("serviceaccounts", "", account)
        return Bound(namespace, account, item.value["metadata"]["uid"], pod)

    def _bound_pod(
        self, namespace: str, account: str, reference: JsonObject | None
    ) -> tuple[str, str] | None:
        if not reference:
            return None
        if reference.get("kind") != "Pod":
            raise bad_request("localmesh binds tokens to pods only")
        name = reference.get("name", "")
        item = self.store.get("pods", Key(namespace, name))
        if item is None:
            raise not_found("pods", "", name)
        uid = item.value["metadata"]["uid"]
        if reference.get("uid") not in (None, "", uid):
            message = (
                f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record"
            )
            raise ApiError(409, "Conflict", message)
        if lookup(item.value, "spec", "serviceAccountName") != account:
            raise bad_request(
                f'cannot bind token for serviceaccount "{account}" to pod running with another one'
            )
        return name, uid

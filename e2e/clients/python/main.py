"""Lists and watches, with the stock Python client, every resource that the server of KUBECONFIG offers.

Every kind has an object when this starts: a list holds it, and a watch begins with it. Says what it found in one line of JSON; says what
was wrong on standard error, and ends with 1.
"""

import concurrent.futures
import inspect
import json
import sys

from kubernetes import client, config, watch


config.load_kube_config()
wrong = []

# What the client itself cannot read of any Kubernetes, and why: read as plain JSON.
UNREADABLE = {
    ("events.k8s.io/v1", "list_event_for_all_namespaces"): "requires the eventTime that events of v1 lack",
    ("resource.k8s.io/v1", "list_resource_claim_for_all_namespaces"): "watches a model that it names otherwise",
}


def apis():
    """Each version of each group for which the client has a class: the class, and what the server offers there."""
    for name, kind in inspect.getmembers(client, inspect.isclass):
        if not name.endswith("Api") or "get_api_resources" not in vars(kind) or name == "CustomObjectsApi":
            continue
        api = kind()
        try:
            offered = api.get_api_resources()
        except client.ApiException as error:
            if error.status != 404:
                raise
            continue
        yield api, offered


def lists(api):
    """The client's methods that list all objects of a resource."""
    for name, method in inspect.getmembers(api, inspect.ismethod):
        if name.startswith("list_") and not name.startswith("list_namespaced_") and not name.endswith("_with_http_info"):
            yield method


def check(method, verbs, plain):
    """Lists, then watches from the start until the first event; whether it could be watched."""
    if plain:
        found = json.loads(method(_preload_content=False).data)
        kind, items = found["kind"], found["items"]
    else:
        found = method()
        kind, items = found.kind, found.items
    kind = kind.removesuffix("List")
    if not items:
        raise ValueError(f"no {kind} is listed")
    if "watch" not in verbs[kind]:
        return False
    watching = watch.Watch(return_type="object" if plain else None)
    for event in watching.stream(method, timeout_seconds=30):
        watching.stop()
        if event["type"] != "ADDED" or not event["raw_object"]["metadata"]["name"]:
            raise ValueError(f"a watch of {kind} begins with {event['type']}")
        return True
    raise ValueError(f"a watch of {kind} says nothing")


def main():
    covered, listed, watched, work = [], 0, 0, []
    for api, offered in apis():
        covered.append(offered.group_version)
        own = [resource for resource in offered.resources if "/" not in resource.name]
        verbs = {resource.kind: resource.verbs for resource in own}
        methods = list(lists(api))
        kinds = [resource for resource in own if "list" in resource.verbs]
        work += [(offered.group_version, method, verbs) for method in methods]
        if len(kinds) != len(methods):
            wrong.append(f"{offered.group_version}: {len(kinds)} kinds can be listed, the client lists {len(methods)}")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [(version, method, pool.submit(check, method, verbs, (version, method.__name__) in UNREADABLE)) for version, method, verbs in work]
        for version, method, task in running:
            try:
                watched += task.result()
                listed += 1
            except Exception as error:  # whatever the client finds wrong with an answer
                wrong.append(f"{version} {method.__name__}: {type(error).__name__}: {error}")
    print(json.dumps({"versions": sorted(covered), "listed": listed, "watched": watched}))
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


sys.exit(main())
